// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Auth, FeeAuthorization} from "../types/Authorization.sol";

/// @title Balances inside the contract
/// @notice Deposit and withdraw once; every lease, bond, stake, fee and rent moves between balances in here.
/// Amounts are base units of the token.
interface IVault {
    event Deposited(address indexed token, address indexed account, uint256 amount);
    event Withdrawn(address indexed token, address indexed account, address indexed to, uint256 amount);
    event FeePaid(address indexed payer, address indexed relayer, address indexed token, uint256 amount);
    /// @notice The owner put a token on or off the allow-list, and said whether it can burn.
    event TokenSet(address indexed token, bool allowed, bool burnable);
    /// @notice The sink's reserve of `token` was destroyed.
    event SinkBurned(address indexed token, uint256 amount);
    /// @notice The registry moved `amount` of an account's balance into stake.
    event Staked(address indexed token, address indexed account, uint256 amount);
    /// @notice The registry moved `amount` of stake into an account's balance.
    event Unstaked(address indexed token, address indexed account, uint256 amount);
    /// @notice The registry moved `amount` of stake into the sink.
    event StakeSunk(address indexed token, uint256 amount);
    /// @notice An account paid rent into the sink.
    event RentPaid(address indexed token, address indexed account, uint256 amount);

    error InsufficientBalance(address token, address account, uint256 balance, uint256 needed);
    error TokenNotAllowed(address token);
    error TokenNotBurnable(address token);
    error InvalidReceiver(address receiver);
    /// @notice The fee is bound to calls that this transaction does not make.
    error FeeBoundToCalls(bytes32 bound, bytes32 made);

    /// @notice What `account` may lock or withdraw, in base units of `token`.
    function balanceOf(address token, address account) external view returns (uint256);

    /// @notice All of `token` that devices have at stake.
    function staked(address token) external view returns (uint256);

    /// @return sink The reserve that is burned or, where the token cannot burn, kept for watchers.
    /// @return watchers The watcher pool.
    /// @return allowed Whether new deposits and leases may use the token; exits never ask.
    /// @return burnable Whether {burnSink} works.
    function pools(address token)
        external
        view
        returns (uint256 sink, uint256 watchers, bool allowed, bool burnable);

    /// @notice Pulls `amount` from `account` by its ERC-20 allowance, and credits what arrived.
    /// Signed as `Deposit(address token,address account,uint256 amount,uint256 nonce,uint40 deadline)`.
    /// @return credited What arrived: less than `amount` where the token takes a fee.
    function deposit(address token, address account, uint256 amount, Auth calldata auth)
        external
        returns (uint256 credited);

    /// @notice {deposit} after an ERC-2612 permit for this contract. A permit that somebody submitted before, or
    /// that fails for any reason, is passed over: the allowance decides.
    function depositWithPermit(
        address token,
        address account,
        uint256 amount,
        uint256 permitDeadline,
        bytes calldata permitSignature,
        Auth calldata auth
    ) external returns (uint256 credited);

    /// @notice Credits `from` with what its ERC-3009 `receiveWithAuthorization` to this contract brings. Anyone may
    /// submit. An authorization that was used before brings nothing and does not revert.
    function depositWithAuthorization(
        address token,
        address from,
        uint256 amount,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external returns (uint256 credited);

    /// @notice Sends `amount` of `account`'s free balance to `to`. Never paused.
    /// Signed as `Withdraw(address token,address account,address to,uint256 amount,uint256 nonce,uint40 deadline)`.
    function withdraw(address token, address account, address to, uint256 amount, Auth calldata auth) external;

    /// @notice Moves a fee from the payer's free balance to the relayer's. Signed as
    /// `FeeAuthorization(address payer,address relayer,address token,uint96 amount,bytes32 calls,uint256 nonce,uint40 deadline)`.
    /// @dev A fee that names calls is paid by {Relay-relay} (here or in the registry) and by the registry's arbiter only:
    /// a court takes its bonds by fees to itself that name what they are for.
    function payFee(FeeAuthorization calldata fee, bytes calldata signature) external;

    /// @notice Destroys the sink's reserve of a token that can burn. Anyone may call.
    function burnSink(address token) external;

    /// @notice The owner's allow-list.
    function setToken(address token, bool allowed, bool burnable) external;

    /// @notice The registry's only way to money: it can return no more than it took.
    function takeStake(address token, address from, uint256 amount) external;
    /// @notice Registry only.
    function returnStake(address token, address to, uint256 amount) external;
    /// @notice Registry only.
    function sinkStake(address token, uint256 amount) external;
    /// @notice Registry only.
    function takeRent(address token, address from, uint256 amount) external;
}
