// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Signatures} from "./Signatures.sol";
import {IVault} from "./interfaces/IVault.sol";

/// @title Who owns what in here
/// @notice Moves between balances and pools. No token is called.
abstract contract Ledger is Signatures {
    /// @dev A struct, so that one look-up serves the read and the write.
    struct Amount {
        uint256 value;
    }

    struct Pool {
        uint120 sink;
        uint120 watchers;
        bool allowed;
        bool burnable;
    }

    mapping(address token => mapping(address account => Amount)) internal _balances;
    mapping(address token => Pool) internal _pools;

    function _requireAllowed(address token) internal view {
        if (!_pools[token].allowed) revert IVault.TokenNotAllowed(token);
    }

    function _credit(address token, address account, uint256 amount) internal {
        if (amount != 0) _balances[token][account].value += amount;
    }

    function _debit(address token, address account, uint256 amount) internal {
        Amount storage held = _balances[token][account];
        uint256 balance = held.value;
        if (balance < amount) revert IVault.InsufficientBalance(token, account, balance, amount);
        unchecked {
            held.value = balance - amount;
        }
    }

    function _sink(address token, uint256 amount) internal {
        _fill(token, amount, 0);
    }

    /// @dev By hand, since it is on the way of every close: {Pool} is `burnable8 | allowed8 | watchers120 | sink120`.
    /// Cannot overflow: every amount in here was a token's balance, and no allowed token has 2^120 base units;
    /// one that has would saturate its pool rather than block an exit.
    function _fill(address token, uint256 sink, uint256 watchers) internal {
        Pool storage pool = _pools[token];
        assembly ("memory-safe") {
            let word := sload(pool.slot)
            let most := sub(shl(120, 1), 1)
            sink := add(sink, and(word, most))
            watchers := add(watchers, and(shr(120, word), most))
            if gt(sink, most) { sink := most }
            if gt(watchers, most) { watchers := most }
            sstore(pool.slot, or(or(sink, shl(120, watchers)), shl(240, shr(240, word))))
        }
    }
}
