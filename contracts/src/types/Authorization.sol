// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice How an account agrees to an action. Sent by the account itself, all fields may be empty; sent by
/// anyone else, `signature` is the account's EIP-712 signature over the action.
/// @param nonce Any number that this account never used in this contract; order is free. Actions that the state
/// itself makes unrepeatable do not sign it and ignore it.
/// @param deadline The last second at which the signature counts.
/// @param signature 65 bytes of secp256k1, or whatever the account's contract takes by ERC-1271.
struct Auth {
    uint256 nonce;
    uint40 deadline;
    bytes signature;
}

/// @notice A payer's order to pay a relayer from its free balance.
/// @param relayer Who receives the fee, whoever submits.
/// @param amount Base units of `token`.
/// @param calls Zero for a plain payment, else `keccak256(abi.encode(contract, calls))` of the calls that have to
/// succeed in the same transaction: a relayer cannot take the fee and leave the work.
struct FeeAuthorization {
    address payer;
    address relayer;
    address token;
    uint96 amount;
    bytes32 calls;
    uint256 nonce;
    uint40 deadline;
}
