// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {Relay} from "./Relay.sol";
import {Signatures} from "./Signatures.sol";
import {AccountView, DeviceView, IRegistry, RegistryConfig} from "./interfaces/IRegistry.sol";
import {IVault} from "./interfaces/IVault.sol";
import {Auth, FeeAuthorization} from "./types/Authorization.sol";
import {DeviceWord, newDevice} from "./types/DeviceWord.sol";

/// @title Registry
/// @notice See {IRegistry}. Made by the leases' contract, which is its vault.
contract Registry is IRegistry, Signatures, Relay, Ownable2Step {
    using SafeCast for uint256;

    /// @dev All of it in one word, which an opening reads.
    struct Record {
        address provider;
        uint40 rentUntil;
        uint40 unbondingAt;
        uint8 units;
        bool qualified;
    }

    /// @dev `faultEpoch` is one more than the last epoch with a fault; beside the key, since that word is never zero.
    struct Key {
        address key;
        uint64 faultEpoch;
        uint32 faults;
    }

    /// @dev While `until` lies ahead the stake is not withdrawn.
    struct Freeze {
        uint40 since;
        uint40 until;
    }

    struct Account {
        bytes32 meshKey;
        bytes32 metadata;
        uint40 rentUntil;
    }

    bytes32 internal constant REGISTER_TYPEHASH =
        keccak256("Register(address account,bytes32 meshKey,bytes32 metadata,uint256 nonce,uint40 deadline)");
    bytes32 internal constant UPDATE_ACCOUNT_TYPEHASH = keccak256(
        "UpdateAccount(address account,bytes32 meshKey,bytes32 metadata,uint256 nonce,uint40 deadline)"
    );
    bytes32 internal constant ADD_DEVICE_TYPEHASH = keccak256(
        "AddDevice(address provider,address key,address sponsor,uint16 class,uint8 units,uint256 nonce,uint40 deadline)"
    );
    bytes32 internal constant SET_SPONSOR_TYPEHASH =
        keccak256("SetSponsor(bytes32 device,address sponsor,uint256 nonce,uint40 deadline)");
    bytes32 internal constant STAKE_TYPEHASH =
        keccak256("Stake(bytes32 device,uint96 amount,uint256 nonce,uint40 deadline)");
    bytes32 internal constant PAY_RENT_TYPEHASH = keccak256(
        "PayRent(bytes32 device,address payer,uint32 span,uint256 limit,uint256 nonce,uint40 deadline)"
    );
    bytes32 internal constant BEGIN_UNBOND_TYPEHASH =
        keccak256("BeginUnbond(bytes32 device,address account,uint256 nonce,uint40 deadline)");

    uint256 private constant MAX_UNITS = 64;
    /// @dev No owner can hold a stake longer than this after its last lease.
    uint256 private constant MAX_UNBONDING = 60 days;
    /// @dev A reporter gets at most one part in this many of what it had slashed.
    uint256 private constant REWARD_PARTS = 10;
    uint256 private constant WHOLE = 10_000;
    /// @dev No arbiter can hold a stake longer than this at a stretch.
    uint256 private constant MAX_FREEZE = 7 days;

    IVault private immutable _VAULT;
    address private immutable _STAKE_TOKEN;
    address private immutable _FEE_TOKEN;
    address private immutable _ARBITER;

    mapping(bytes32 device => DeviceWord) private _words;
    mapping(bytes32 device => Record) private _records;
    mapping(bytes32 device => Key) private _keys;
    mapping(bytes32 device => address) private _sponsors;
    mapping(bytes32 device => Freeze) private _freezes;
    mapping(uint16 class => uint96) private _classMinimum;
    mapping(address account => Account) private _accounts;
    address[] private _accountList;
    bytes32[] private _deviceList;
    RegistryConfig private _config;

    /// @param arbiter_ Who may slash and jail; zero for a deployment without a trust layer.
    constructor(
        address owner_,
        address stakeToken_,
        address feeToken_,
        address arbiter_,
        RegistryConfig memory config_
    ) EIP712("Tradewind Registry", "1") Ownable(owner_) {
        _VAULT = IVault(msg.sender);
        _STAKE_TOKEN = stakeToken_;
        _FEE_TOKEN = feeToken_;
        _ARBITER = arbiter_;
        _setConfig(config_);
    }

    modifier onlyLeases() {
        if (msg.sender != address(_VAULT)) revert NotAllowed(msg.sender);
        _;
    }

    modifier onlyArbiter() {
        if (msg.sender != _ARBITER) revert NotAllowed(msg.sender);
        _;
    }

    /// @inheritdoc IRegistry
    function register(address account_, bytes32 meshKey, bytes32 metadata, Auth calldata auth) external {
        bytes32 structHash =
            keccak256(abi.encode(REGISTER_TYPEHASH, account_, meshKey, metadata, auth.nonce, auth.deadline));
        _authorizeOnce(account_, structHash, auth);
        if (_accounts[account_].meshKey != 0) revert AlreadyRegistered(account_);
        if (meshKey == 0) revert InvalidMeshKey();
        if (address(_config.membership) != address(0) && !_config.membership.isMember(account_)) {
            revert NotMember(account_);
        }
        _accounts[account_] = Account(meshKey, metadata, 0);
        _accountList.push(account_);
        emit AccountRegistered(account_, meshKey, metadata);
    }

    /// @inheritdoc IRegistry
    function updateAccount(address account_, bytes32 meshKey, bytes32 metadata, Auth calldata auth) external {
        bytes32 structHash = keccak256(
            abi.encode(UPDATE_ACCOUNT_TYPEHASH, account_, meshKey, metadata, auth.nonce, auth.deadline)
        );
        _authorizeOnce(account_, structHash, auth);
        if (_accounts[account_].meshKey == 0) revert NotRegistered(account_);
        if (meshKey == 0) revert InvalidMeshKey();
        _accounts[account_].meshKey = meshKey;
        _accounts[account_].metadata = metadata;
        emit AccountUpdated(account_, meshKey, metadata);
    }

    /// @inheritdoc IRegistry
    function addDevice(
        address provider,
        address key,
        address sponsor,
        uint16 class,
        uint8 units,
        Auth calldata auth
    ) external returns (bytes32 id) {
        bytes32 structHash = keccak256(
            abi.encode(ADD_DEVICE_TYPEHASH, provider, key, sponsor, class, units, auth.nonce, auth.deadline)
        );
        _authorizeOnce(provider, structHash, auth);
        if (_accounts[provider].meshKey == 0) revert NotRegistered(provider);
        if (key == address(0) || units == 0 || units > MAX_UNITS) revert InvalidDevice(key, units);
        id = deviceId(provider, key);
        if (_records[id].provider != address(0)) revert DeviceExists(id);
        if (sponsor == address(0)) sponsor = provider;
        _words[id] = newDevice(class);
        _records[id] = Record(provider, 0, 0, units, false);
        _keys[id].key = key;
        _sponsors[id] = sponsor;
        _deviceList.push(id);
        emit DeviceAdded(id, provider, key, sponsor, class, units);
    }

    /// @inheritdoc IRegistry
    function setSponsor(bytes32 id, address sponsor, Auth calldata auth) external {
        Record memory record = _known(id);
        _authorizeOnce(
            record.provider,
            keccak256(abi.encode(SET_SPONSOR_TYPEHASH, id, sponsor, auth.nonce, auth.deadline)),
            auth
        );
        uint256 held = _words[id].stake();
        if (held != 0) revert StakeNotEmpty(id, held);
        if (sponsor == address(0)) sponsor = record.provider;
        _sponsors[id] = sponsor;
        emit SponsorSet(id, sponsor);
    }

    /// @inheritdoc IRegistry
    function stake(bytes32 id, uint96 amount, Auth calldata auth) external {
        Record memory record = _known(id);
        address sponsor = _sponsors[id];
        _authorizeOnce(
            sponsor, keccak256(abi.encode(STAKE_TYPEHASH, id, amount, auth.nonce, auth.deadline)), auth
        );
        if (record.unbondingAt != 0) revert DeviceUnbonding(id, record.unbondingAt);
        if (amount == 0) revert InvalidAmount(amount);
        DeviceWord word = _words[id];
        uint96 total = word.stake() + amount;
        _words[id] = word.withStake(total);
        _qualify(id, record, word.class(), total);
        _VAULT.takeStake(_STAKE_TOKEN, sponsor, amount);
        emit StakeAdded(id, sponsor, amount, total);
    }

    /// @inheritdoc IRegistry
    function payRent(bytes32 id, address payer, uint32 span, uint256 limit, Auth calldata auth) external {
        Record memory record = _known(id);
        _authorizeOnce(
            payer,
            keccak256(abi.encode(PAY_RENT_TYPEHASH, id, payer, span, limit, auth.nonce, auth.deadline)),
            auth
        );
        uint256 cost = Math.mulDiv(_config.rentPerDay, span, 1 days, Math.Rounding.Ceil);
        if (cost > limit) revert RentTooDear(cost, limit);
        uint256 until = Math.max(record.rentUntil, block.timestamp) + span;
        if (until > block.timestamp + _config.maxRent) {
            revert RentTooFar(until, block.timestamp + _config.maxRent);
        }
        uint40 rentUntil = until.toUint40();
        _records[id].rentUntil = rentUntil;
        Account storage owner_ = _accounts[record.provider];
        if (rentUntil > owner_.rentUntil) owner_.rentUntil = rentUntil;
        _VAULT.takeRent(_FEE_TOKEN, payer, cost);
        emit RentExtended(id, payer, rentUntil, cost);
    }

    /// @inheritdoc IRegistry
    function beginUnbond(bytes32 id, address account_, Auth calldata auth) external {
        Record memory record = _known(id);
        if (account_ != record.provider && account_ != _sponsors[id]) revert NotAllowed(account_);
        _authorizeOnce(
            account_,
            keccak256(abi.encode(BEGIN_UNBOND_TYPEHASH, id, account_, auth.nonce, auth.deadline)),
            auth
        );
        if (record.unbondingAt != 0) revert DeviceUnbonding(id, record.unbondingAt);
        DeviceWord word = _words[id];
        if (word.stake() == 0) revert InvalidAmount(0);
        uint40 withdrawableAt = Math.max(block.timestamp + _config.unbonding, word.lastEnd()).toUint40();
        _records[id].unbondingAt = withdrawableAt;
        emit UnbondBegun(id, withdrawableAt);
    }

    /// @inheritdoc IRegistry
    function withdrawStake(bytes32 id) external {
        Record memory record = _known(id);
        if (record.unbondingAt == 0) revert NotUnbonding(id);
        uint256 from = Math.max(record.unbondingAt, _freezes[id].until);
        if (block.timestamp < from) revert StillBonded(id, from);
        DeviceWord word = _words[id];
        uint96 amount = word.stake();
        address sponsor = _sponsors[id];
        _words[id] = word.withStake(0);
        _records[id].unbondingAt = 0;
        _qualify(id, record, word.class(), 0);
        _VAULT.returnStake(_STAKE_TOKEN, sponsor, amount);
        emit StakeWithdrawn(id, sponsor, amount);
    }

    /// @inheritdoc IRegistry
    function qualify(bytes32 id) external {
        DeviceWord word = _words[id];
        _qualify(id, _known(id), word.class(), word.stake());
    }

    /// @inheritdoc IRegistry
    function slash(bytes32 id, uint96 amount, address reporter) external onlyArbiter {
        Record memory record = _known(id);
        DeviceWord word = _words[id];
        uint96 held = word.stake();
        _slash(id, record, word, amount > held ? held : amount, reporter);
    }

    /// @inheritdoc IRegistry
    function slashShare(bytes32 id, uint16 bps, address reporter)
        external
        onlyArbiter
        returns (uint96 amount)
    {
        Record memory record = _known(id);
        DeviceWord word = _words[id];
        amount = _share(word, bps);
        _slash(id, record, word, amount, reporter);
    }

    /// @inheritdoc IRegistry
    function slashFault(bytes32 id, uint64 epoch, uint16 firstBps, uint16 againBps, address reporter)
        external
        onlyArbiter
    {
        Record memory record = _known(id);
        Key memory found = _keys[id];
        if (epoch < found.faultEpoch) revert FaultPunished(id, epoch);
        uint16 bps = found.faults == 0 ? firstBps : againBps;
        found.faultEpoch = epoch + 1;
        ++found.faults;
        _keys[id] = found;
        DeviceWord word = _words[id];
        _slash(id, record, word, _share(word, bps), reporter);
    }

    /// @inheritdoc IRegistry
    function jail(bytes32 id, uint40 until) external onlyArbiter {
        _known(id);
        DeviceWord word = _words[id];
        if (until > word.jailedUntil()) {
            _words[id] = word.withJailedUntil(until);
            emit Jailed(id, until);
        }
    }

    /// @inheritdoc IRegistry
    function freezeStake(bytes32 id, uint40 until) external onlyArbiter {
        _known(id);
        Freeze memory last = _freezes[id];
        uint256 thawed = uint256(last.until) + (last.until - last.since);
        if (block.timestamp >= thawed) last.since = uint40(block.timestamp);
        uint256 limit = last.since + MAX_FREEZE;
        last.until = uint40(Math.max(Math.min(until, limit), last.since));
        _freezes[id] = last;
        emit Frozen(id, last.until);
    }

    /// @inheritdoc IRegistry
    function frozenUntil(bytes32 id) external view returns (uint40) {
        return _freezes[id].until;
    }

    /// @inheritdoc IRegistry
    function assign(bytes32 id, address provider, uint64 units, bool staked, uint40 until)
        external
        onlyLeases
    {
        Record memory record = _records[id];
        if (record.provider != provider) revert WrongProvider(id, provider);
        if (record.rentUntil < block.timestamp) revert RentLapsed(id, record.rentUntil);
        if (record.unbondingAt != 0) revert DeviceUnbonding(id, record.unbondingAt);
        DeviceWord word = _words[id];
        if (word.jailedUntil() > block.timestamp) revert DeviceJailed(id, word.jailedUntil());
        uint64 busy = word.busyUnits();
        if (units == 0 || uint256(units) >> record.units != 0 || units & busy != 0) {
            revert UnitsUnavailable(id, units, busy, record.units);
        }
        if (staked && !record.qualified) {
            revert StakeTooLow(id, word.stake(), minimumStake(word.class(), record.units));
        }
        word = word.withBusyUnits(busy | units);
        if (until > word.lastEnd()) word = word.withLastEnd(until);
        _words[id] = word;
    }

    /// @inheritdoc IRegistry
    function releaseUnits(bytes32 id, uint64 units) external onlyLeases {
        DeviceWord word = _words[id];
        _words[id] = word.withBusyUnits(word.busyUnits() & ~units);
    }

    /// @inheritdoc IRegistry
    function setConfig(RegistryConfig calldata config_) external onlyOwner {
        _setConfig(config_);
    }

    /// @inheritdoc IRegistry
    function setClass(uint16 class, uint96 minimumPerUnit) external onlyOwner {
        _classMinimum[class] = minimumPerUnit;
        emit ClassSet(class, minimumPerUnit);
    }

    /// @inheritdoc IRegistry
    function deviceId(address provider, address key) public pure returns (bytes32) {
        return keccak256(abi.encode(provider, key));
    }

    /// @inheritdoc IRegistry
    function account(address account_) public view returns (AccountView memory) {
        Account memory found = _accounts[account_];
        return AccountView(account_, found.meshKey, found.metadata, found.rentUntil);
    }

    /// @inheritdoc IRegistry
    function device(bytes32 id) public view returns (DeviceView memory) {
        Record memory record = _records[id];
        DeviceWord word = _words[id];
        return DeviceView({
            id: id,
            provider: record.provider,
            key: _keys[id].key,
            sponsor: _sponsors[id],
            class: word.class(),
            units: record.units,
            stake: word.stake(),
            busyUnits: word.busyUnits(),
            jailedUntil: word.jailedUntil(),
            lastEnd: word.lastEnd(),
            rentUntil: record.rentUntil,
            unbondingAt: record.unbondingAt
        });
    }

    /// @inheritdoc IRegistry
    function accountCount() external view returns (uint256) {
        return _accountList.length;
    }

    /// @inheritdoc IRegistry
    function deviceCount() external view returns (uint256) {
        return _deviceList.length;
    }

    /// @inheritdoc IRegistry
    function accountsPage(uint256 from, uint256 count) external view returns (AccountView[] memory page) {
        page = new AccountView[](_pageLength(_accountList.length, from, count));
        for (uint256 i; i < page.length; ++i) {
            page[i] = account(_accountList[from + i]);
        }
    }

    /// @inheritdoc IRegistry
    function devicesPage(uint256 from, uint256 count) external view returns (DeviceView[] memory page) {
        page = new DeviceView[](_pageLength(_deviceList.length, from, count));
        for (uint256 i; i < page.length; ++i) {
            page[i] = device(_deviceList[from + i]);
        }
    }

    /// @inheritdoc IRegistry
    function minimumStake(uint16 class, uint8 units) public view returns (uint256) {
        return uint256(_classMinimum[class]) * units;
    }

    /// @inheritdoc IRegistry
    function config() external view returns (RegistryConfig memory) {
        return _config;
    }

    /// @inheritdoc IRegistry
    function stakeToken() external view returns (address) {
        return _STAKE_TOKEN;
    }

    /// @inheritdoc IRegistry
    function feeToken() external view returns (address) {
        return _FEE_TOKEN;
    }

    /// @inheritdoc IRegistry
    function arbiter() external view returns (address) {
        return _ARBITER;
    }

    /// @inheritdoc IRegistry
    function leases() external view returns (address) {
        return address(_VAULT);
    }

    function _payRelayer(FeeAuthorization calldata fee, bytes calldata signature) internal override {
        _VAULT.payFee(fee, signature);
    }

    function _share(DeviceWord word, uint16 bps) private pure returns (uint96) {
        if (bps > WHOLE) revert InvalidAmount(bps);
        return uint96(uint256(word.stake()) * bps / WHOLE);
    }

    /// @dev Reads neither the record nor the word again: a proof pays for every read.
    function _slash(bytes32 id, Record memory record, DeviceWord word, uint96 amount, address reporter)
        private
    {
        uint96 left = word.stake() - amount;
        uint96 reward = reporter == address(0) ? 0 : uint96(amount / REWARD_PARTS);
        uint96 sunk = amount - reward;
        _words[id] = word.withStake(left);
        _qualify(id, record, word.class(), left);
        if (reward != 0) _VAULT.returnStake(_STAKE_TOKEN, reporter, reward);
        _VAULT.sinkStake(_STAKE_TOKEN, sunk);
        emit Slashed(id, amount, reporter, reward, sunk);
    }

    function _setConfig(RegistryConfig memory config_) private {
        if (config_.unbonding > MAX_UNBONDING) revert UnbondingTooLong(config_.unbonding, MAX_UNBONDING);
        _config = config_;
        emit ConfigSet(config_);
    }

    /// @dev Remembers beside the rent whether the stake suffices, so that an opening reads no class.
    function _qualify(bytes32 id, Record memory record, uint16 class, uint96 held) private {
        uint256 minimum = minimumStake(class, record.units);
        bool enough = minimum != 0 && held >= minimum;
        if (enough != record.qualified) {
            _records[id].qualified = enough;
            emit DeviceQualified(id, enough);
        }
    }

    function _known(bytes32 id) private view returns (Record memory record) {
        record = _records[id];
        if (record.provider == address(0)) revert UnknownDevice(id);
    }

    function _pageLength(uint256 length, uint256 from, uint256 count) private pure returns (uint256) {
        return from >= length ? 0 : Math.min(count, length - from);
    }
}
