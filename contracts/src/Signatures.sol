// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";

import {ISignatures} from "./interfaces/ISignatures.sol";
import {Auth} from "./types/Authorization.sol";

/// @title Who agreed to what
/// @notice Keys first, contracts second: an account whose code is only a delegation still signs with its key.
abstract contract Signatures is ISignatures, EIP712 {
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
        _checkSigner(account, _hashTypedDataV4(structHash), auth.signature);
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

    /// @dev A plain key: low `s`, 65 bytes, and never the zero address.
    function _signedByKey(address signer, bytes32 digest, bytes calldata signature)
        internal
        pure
        returns (bool)
    {
        (address recovered, ECDSA.RecoverError fault,) = ECDSA.tryRecoverCalldata(digest, signature);
        return fault == ECDSA.RecoverError.NoError && recovered == signer;
    }
}
