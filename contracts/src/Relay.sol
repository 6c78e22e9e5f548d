// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Multicall} from "@openzeppelin/contracts/utils/Multicall.sol";

import {IVault} from "./interfaces/IVault.sol";
import {FeeAuthorization} from "./types/Authorization.sol";

/// @title Work for a fee
/// @notice Several calls in one transaction, and a fee that is paid only with them. Nothing here is payable, and
/// `msg.sender` stays who it was.
abstract contract Relay is Multicall {
    /// @notice Makes the calls to this contract, then pays the fee bound to them; all or nothing.
    function relay(FeeAuthorization calldata fee, bytes calldata signature, bytes[] calldata calls) external {
        bytes32 made = keccak256(abi.encode(address(this), calls));
        if (fee.calls != made) revert IVault.FeeBoundToCalls(fee.calls, made);
        multicall(calls);
        _payRelayer(fee, signature);
    }

    function _payRelayer(FeeAuthorization calldata fee, bytes calldata signature) internal virtual;
}
