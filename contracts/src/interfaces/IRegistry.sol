// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Auth} from "../types/Authorization.sol";
import {IMembership} from "./IMembership.sol";

/// @notice A registered account.
/// @param account Its address.
/// @param meshKey Its ed25519 key on the mesh; possession is proved at the mesh's handshake, not here.
/// @param metadata Digest of a self-description, or zero.
/// @param rentUntil The latest end of any of its devices' rent: a page of accounts can leave the dead out.
struct AccountView {
    address account;
    bytes32 meshKey;
    bytes32 metadata;
    uint40 rentUntil;
}

/// @notice A device, decoded. Instants in Unix seconds.
/// @param id keccak256(abi.encode(provider, key)).
/// @param provider Its owner.
/// @param key The secp256k1 key (as an address) that signs the device's evidence.
/// @param sponsor Who may stake it and gets the stake back.
/// @param class The hardware class that sets its minimum stake.
/// @param units How many units it leases out, 1 to 64.
/// @param stake In base units of the stake token.
/// @param busyUnits Bit mask of the units that live leases hold.
/// @param jailedUntil It opens no lease before this.
/// @param lastEnd When the last dispute about its latest lease can still be open.
/// @param rentUntil It opens no lease after this.
/// @param unbondingAt When its stake may be withdrawn, or zero.
struct DeviceView {
    bytes32 id;
    address provider;
    address key;
    address sponsor;
    uint16 class;
    uint8 units;
    uint96 stake;
    uint64 busyUnits;
    uint40 jailedUntil;
    uint40 lastEnd;
    uint40 rentUntil;
    uint40 unbondingAt;
}

/// @notice What the owner may tune. A change alters no running lease, no stake and no rent already paid.
/// @param rentPerDay Rent of a device for a day, in base units of the fee token.
/// @param unbonding Seconds between the request and the withdrawal of a stake, at least; at most 60 days.
/// @param maxRent The farthest ahead that rent may be paid, in seconds.
/// @param membership Asked when an account registers; zero asks nobody.
struct RegistryConfig {
    uint96 rentPerDay;
    uint32 unbonding;
    uint32 maxRent;
    IMembership membership;
}

/// @title Registry
/// @notice Accounts with their mesh keys, devices with their stake and rent. The tokens lie in the {IVault}; here is
/// who they belong to.
interface IRegistry {
    event AccountRegistered(address indexed account, bytes32 meshKey, bytes32 metadata);
    event AccountUpdated(address indexed account, bytes32 meshKey, bytes32 metadata);
    event DeviceAdded(
        bytes32 indexed device,
        address indexed provider,
        address key,
        address sponsor,
        uint16 class,
        uint8 units
    );
    event SponsorSet(bytes32 indexed device, address indexed sponsor);
    event StakeAdded(bytes32 indexed device, address indexed sponsor, uint96 amount, uint96 stake);
    event UnbondBegun(bytes32 indexed device, uint40 withdrawableAt);
    event StakeWithdrawn(bytes32 indexed device, address indexed sponsor, uint96 amount);
    event RentExtended(bytes32 indexed device, address indexed payer, uint40 rentUntil, uint256 cost);
    /// @notice Whether the device's stake reaches its class's minimum, which is not zero.
    event DeviceQualified(bytes32 indexed device, bool qualified);
    event Slashed(
        bytes32 indexed device, uint96 amount, address indexed reporter, uint96 reward, uint96 sunk
    );
    event Jailed(bytes32 indexed device, uint40 until);
    event Frozen(bytes32 indexed device, uint40 until);
    event ConfigSet(RegistryConfig config);
    event ClassSet(uint16 indexed class, uint96 minimumPerUnit);

    error AlreadyRegistered(address account);
    error NotRegistered(address account);
    error NotMember(address account);
    error InvalidMeshKey();
    error InvalidDevice(address key, uint8 units);
    error DeviceExists(bytes32 device);
    error UnknownDevice(bytes32 device);
    error WrongProvider(bytes32 device, address provider);
    error StakeTooLow(bytes32 device, uint256 stake, uint256 minimum);
    error StakeNotEmpty(bytes32 device, uint256 stake);
    error RentLapsed(bytes32 device, uint256 rentUntil);
    error RentTooFar(uint256 until, uint256 limit);
    error RentTooDear(uint256 cost, uint256 limit);
    error DeviceJailed(bytes32 device, uint256 until);
    error DeviceUnbonding(bytes32 device, uint256 withdrawableAt);
    error NotUnbonding(bytes32 device);
    error StillBonded(bytes32 device, uint256 withdrawableAt);
    error UnitsUnavailable(bytes32 device, uint256 wanted, uint256 busy, uint256 units);
    error InvalidAmount(uint256 amount);
    /// @notice A fault of this epoch, or of a later one, was punished already.
    error FaultPunished(bytes32 device, uint64 epoch);
    error UnbondingTooLong(uint256 unbonding, uint256 limit);

    /// @notice Puts an account on the list.
    /// Signed as `Register(address account,bytes32 meshKey,bytes32 metadata,uint256 nonce,uint40 deadline)`.
    function register(address account, bytes32 meshKey, bytes32 metadata, Auth calldata auth) external;

    /// @notice Replaces an account's mesh key and metadata.
    /// Signed as `UpdateAccount(address account,bytes32 meshKey,bytes32 metadata,uint256 nonce,uint40 deadline)`.
    function updateAccount(address account, bytes32 meshKey, bytes32 metadata, Auth calldata auth) external;

    /// @notice Adds a device of a registered provider. Its id is `keccak256(abi.encode(provider, key))`.
    /// Signed as `AddDevice(address provider,address key,address sponsor,uint16 class,uint8 units,uint256 nonce,uint40 deadline)`.
    /// @param sponsor Who may stake the device and gets the stake back; zero is the provider itself.
    function addDevice(
        address provider,
        address key,
        address sponsor,
        uint16 class,
        uint8 units,
        Auth calldata auth
    ) external returns (bytes32 device);

    /// @notice Names another sponsor for a device without stake. The provider only.
    /// Signed as `SetSponsor(bytes32 device,address sponsor,uint256 nonce,uint40 deadline)`.
    function setSponsor(bytes32 device, address sponsor, Auth calldata auth) external;

    /// @notice Adds stake from the free balance of the device's sponsor, who always gets it back.
    /// Signed by the sponsor as `Stake(bytes32 device,uint96 amount,uint256 nonce,uint40 deadline)`.
    function stake(bytes32 device, uint96 amount, Auth calldata auth) external;

    /// @notice Prepays rent from the free balance of `payer`, from the end of what is paid (or from now). Not refunded.
    /// Signed as `PayRent(bytes32 device,address payer,uint32 span,uint256 limit,uint256 nonce,uint40 deadline)`.
    /// @param span In seconds.
    /// @param limit The most it may cost, in base units of the fee token.
    function payRent(bytes32 device, address payer, uint32 span, uint256 limit, Auth calldata auth) external;

    /// @notice Begins to unbond the whole stake. No new lease from now on; the stake stays slashable until withdrawn.
    /// By the provider or the sponsor.
    /// Signed as `BeginUnbond(bytes32 device,address account,uint256 nonce,uint40 deadline)`.
    function beginUnbond(bytes32 device, address account, Auth calldata auth) external;

    /// @notice Returns an unbonded stake to its sponsor's free balance. By anyone.
    function withdrawStake(bytes32 device) external;

    /// @notice Compares a device's stake with its class's minimum anew. By anyone: after {setClass} raised a minimum,
    /// a device that no longer reaches it opens staked leases until somebody asks.
    function qualify(bytes32 device) external;

    /// @notice Takes up to `amount` of one device's stake: at most a tenth to `reporter`, the rest to the sink.
    /// The arbiter only; a deployment without one cannot slash.
    function slash(bytes32 device, uint96 amount, address reporter) external;

    /// @notice {slash} of a share of what the device has at stake, rounded down. The arbiter only.
    /// @param bps In basis points.
    function slashShare(bytes32 device, uint16 bps, address reporter) external returns (uint96 amount);

    /// @notice {slashShare} for a fault of an epoch, once for an epoch: epochs have to rise. The arbiter only.
    /// @param firstBps The device's first fault, in basis points.
    /// @param againBps Every further one.
    function slashFault(bytes32 device, uint64 epoch, uint16 firstBps, uint16 againBps, address reporter)
        external;

    /// @notice The device opens no lease until then; a sentence never shortens. The arbiter only.
    function jail(bytes32 device, uint40 until) external;

    /// @notice An unbonded stake is not withdrawn until then; a later call may lengthen or end it. The arbiter only. A
    /// freeze lasts at most seven days from its beginning, and a new one begins only once the stake was free for as
    /// long as it was held: no arbiter holds a stake for good.
    function freezeStake(bytes32 device, uint40 until) external;

    /// @notice When the last freeze of the device's stake ends or ended, or zero.
    function frozenUntil(bytes32 device) external view returns (uint40);

    /// @notice Gives units to a lease. The leases' contract only.
    /// @dev This name and {releaseUnits} sort first among the selectors, where dispatch is cheapest.
    /// @param staked Whether the minimum stake is required.
    /// @param until When the last dispute about the lease can still be open.
    function assign(bytes32 device, address provider, uint64 units, bool staked, uint40 until) external;

    /// @notice Frees a lease's units. The leases' contract only.
    function releaseUnits(bytes32 device, uint64 units) external;

    /// @notice Owner only.
    function setConfig(RegistryConfig calldata config_) external;

    /// @notice The least stake for each unit of a class, in base units of the stake token. Owner only. A provider names
    /// its device's class itself, so a class without a minimum qualifies nobody: it is the unstaked tier. Counts for a
    /// device when its stake next changes, or when anyone calls {qualify}.
    function setClass(uint16 class, uint96 minimumPerUnit) external;

    function deviceId(address provider, address key) external pure returns (bytes32);
    function account(address account_) external view returns (AccountView memory);
    function device(bytes32 id) external view returns (DeviceView memory);
    function accountCount() external view returns (uint256);
    function deviceCount() external view returns (uint256);
    /// @notice Up to `count` accounts in order of registration, from the `from`th.
    function accountsPage(uint256 from, uint256 count) external view returns (AccountView[] memory page);
    /// @notice Up to `count` devices in order of addition, from the `from`th.
    function devicesPage(uint256 from, uint256 count) external view returns (DeviceView[] memory page);
    function minimumStake(uint16 class, uint8 units) external view returns (uint256);
    function config() external view returns (RegistryConfig memory);
    function stakeToken() external view returns (address);
    function feeToken() external view returns (address);
    function arbiter() external view returns (address);
    function leases() external view returns (address);
}
