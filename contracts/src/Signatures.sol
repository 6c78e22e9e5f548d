// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";

import {ISignatures} from "./interfaces/ISignatures.sol";
import {Auth} from "./types/Authorization.sol";

/// @title Who agreed to what
/// @notice Keys first, contracts second: an account whose code is only a delegation still signs with its key.
abstract contract Signatures is ISignatures, EIP712 {
    /// @dev Half of the curve's order: a signature with a larger `s` is the malleable twin of another.
    uint256 private constant _HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0;

    /// @dev {EIP712} keeps the same three to itself; reading them here spares every digest two calls.
    bytes32 private immutable _DOMAIN = _domainSeparatorV4();
    uint256 private immutable _CHAIN = block.chainid;
    address private immutable _SELF = address(this);

    /// @dev One bit a nonce, so that signatures may be submitted in any order.
    mapping(address account => mapping(uint256 word => uint256 bits)) private _spentNonces;

    /// @inheritdoc ISignatures
    function nonceUsed(address account, uint256 nonce) external view returns (bool) {
        return _spentNonces[account][nonce >> 8] & (1 << (nonce & 0xff)) != 0;
    }

    /// @inheritdoc ISignatures
    function cancelNonce(uint256 nonce) external {
        _spend(msg.sender, nonce);
    }

    /// @inheritdoc ISignatures
    // forge-lint: disable-next-line(mixed-case-function)
    function DOMAIN_SEPARATOR() external view returns (bytes32) {
        return _domainSeparatorV4();
    }

    /// @dev Consent to an action that the state makes unrepeatable.
    function _authorize(address account, bytes32 structHash, Auth calldata auth) internal view {
        if (msg.sender == account) return;
        if (block.timestamp > auth.deadline) revert DeadlinePassed(auth.deadline, block.timestamp);
        _checkSigner(account, _digest(structHash), auth.signature);
    }

    /// @dev Consent to an action that could repeat: a signature counts once.
    function _authorizeOnce(address account, bytes32 structHash, Auth calldata auth) internal {
        if (msg.sender == account) return;
        _authorize(account, structHash, auth);
        _spend(account, auth.nonce);
    }

    function _spend(address account, uint256 nonce) internal {
        uint256 bit = 1 << (nonce & 0xff);
        uint256 bits = _spentNonces[account][nonce >> 8];
        if (bits & bit != 0) revert NonceAlreadyUsed(account, nonce);
        _spentNonces[account][nonce >> 8] = bits | bit;
        emit NonceUsed(account, nonce);
    }

    function _checkSigner(address signer, bytes32 digest, bytes calldata signature) internal view {
        if (!_signed(signer, digest, signature)) revert InvalidSignature(signer, digest);
    }

    function _signed(address signer, bytes32 digest, bytes calldata signature) internal view returns (bool) {
        if (_signedByKey(signer, digest, signature)) return true;
        return signer.code.length != 0
            && SignatureChecker.isValidERC1271SignatureNowCalldata(signer, digest, signature);
    }

    /// @dev A plain key: 65 bytes, low `s`, `v` 27 or 28, and never the zero address.
    function _signedByKey(address signer, bytes32 digest, bytes calldata signature)
        internal
        view
        returns (bool result)
    {
        if (signature.length != 65 || signer == address(0)) return false;
        assembly ("memory-safe") {
            let ptr := mload(0x40)
            mstore(ptr, digest)
            mstore(add(ptr, 0x20), byte(0, calldataload(add(signature.offset, 0x40))))
            calldatacopy(add(ptr, 0x40), signature.offset, 0x40)
            mstore(0x00, 0)
            // The precompile answers nothing unless the signature recovers and `v` is 27 or 28.
            if iszero(gt(mload(add(ptr, 0x60)), _HALF_ORDER)) {
                pop(staticcall(gas(), 1, ptr, 0x80, 0x00, 0x20))
                result := eq(mload(0x00), signer)
            }
        }
    }

    /// @dev The EIP-712 digest of a struct in this contract's domain.
    function _digest(bytes32 structHash) internal view returns (bytes32 digest) {
        bytes32 domain = address(this) == _SELF && block.chainid == _CHAIN ? _DOMAIN : _domainSeparatorV4();
        assembly ("memory-safe") {
            mstore(0x00, hex"1901")
            mstore(0x02, domain)
            mstore(0x22, structHash)
            digest := keccak256(0x00, 0x42)
            mstore(0x22, 0)
        }
    }
}
