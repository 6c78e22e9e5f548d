// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Acting by signature
/// @notice Every action takes an {Auth}: the account calls itself, or anyone submits its EIP-712 signature.
interface ISignatures {
    /// @notice `nonce` of `account` will never count again.
    event NonceUsed(address indexed account, uint256 nonce);

    /// @notice Neither the key nor the contract at `signer` signed `digest`.
    error InvalidSignature(address signer, bytes32 digest);
    /// @notice The signature counted until `deadline`.
    error DeadlinePassed(uint256 deadline, uint256 now_);
    /// @notice The account used this nonce before.
    error NonceAlreadyUsed(address account, uint256 nonce);
    /// @notice The caller may not do this.
    error NotAllowed(address caller);

    /// @notice Whether `nonce` of `account` is spent.
    function nonceUsed(address account, uint256 nonce) external view returns (bool);

    /// @notice Spends one of the caller's nonces, so that a signature it gave away never counts.
    function cancelNonce(uint256 nonce) external;

    /// @notice The EIP-712 domain separator of this contract.
    // forge-lint: disable-next-line(mixed-case-function)
    function DOMAIN_SEPARATOR() external view returns (bytes32);
}
