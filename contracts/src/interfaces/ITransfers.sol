// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Between balances
/// @notice What another contract, a court foremost, needs to keep its money as a balance in here. Amounts are base
/// units of the token. No call here sends a coin or asks the allow-list.
interface ITransfers {
    event Transferred(address indexed token, address indexed from, address indexed to, uint256 amount);
    /// @notice An account gave part of its free balance to the sink.
    event Sunk(address indexed token, address indexed account, uint256 amount);
    event Allowed(address indexed token, address indexed account, address indexed spender, uint256 amount);
    /// @notice The watcher pool paid.
    event WatchersPaid(address indexed token, address indexed account, uint256 amount);

    error InsufficientAllowance(
        address token, address account, address spender, uint256 allowance, uint256 needed
    );

    /// @notice Moves `amount` of the caller's free balance to another account's.
    function transfer(address token, address to, uint256 amount) external;

    /// @notice Moves `amount` of the caller's free balance into the sink.
    function forfeit(address token, uint256 amount) external;

    /// @notice Lets `spender` take up to `amount` of the caller's free balance, in place of what it might so far.
    function allow(address spender, address token, uint256 amount) external;

    /// @notice Moves what `account` allowed the caller into the caller's free balance.
    function takeFrom(address token, address account, uint256 amount) external;

    /// @notice Moves up to `amount` from the watcher pool into `account`'s free balance. The registry's arbiter only,
    /// and in a day (of Unix time) no more than a tenth of what the pool held when the day's first payment was made:
    /// a broken court cannot empty it.
    /// @return paid What the day's bound left of `amount`.
    function rewardWatchers(address token, address account, uint256 amount) external returns (uint256 paid);

    /// @notice What `account` lets `spender` take of `token`.
    function allowanceOf(address token, address account, address spender) external view returns (uint256);
}
