// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Signatures} from "./Signatures.sol";
import {IVault} from "./interfaces/IVault.sol";

/// @title Who owns what in here
/// @notice Moves between balances and pools. No token is called.
abstract contract Ledger is Signatures {
    struct Pool {
        uint120 sink;
        uint120 watchers;
        bool allowed;
        bool burnable;
    }

    mapping(address token => mapping(address account => uint256)) internal _balances;
    mapping(address token => Pool) internal _pools;

    function _requireAllowed(address token) internal view {
        if (!_pools[token].allowed) revert IVault.TokenNotAllowed(token);
    }

    function _credit(address token, address account, uint256 amount) internal {
        if (amount != 0) _balances[token][account] += amount;
    }

    function _debit(address token, address account, uint256 amount) internal {
        uint256 balance = _balances[token][account];
        if (balance < amount) revert IVault.InsufficientBalance(token, account, balance, amount);
        unchecked {
            _balances[token][account] = balance - amount;
        }
    }

    function _sink(address token, uint256 amount) internal {
        _fill(token, amount, 0);
    }

    /// @dev Cannot overflow: every amount in here was a token's balance, and no allowed token has 2^120 base units;
    /// one that has would saturate its pool rather than block an exit.
    function _fill(address token, uint256 sink, uint256 watchers) internal {
        if (sink + watchers == 0) return;
        Pool storage pool = _pools[token];
        (uint120 oldSink, uint120 oldWatchers) = (pool.sink, pool.watchers);
        (pool.sink, pool.watchers) = (_saturate(oldSink + sink), _saturate(oldWatchers + watchers));
    }

    function _saturate(uint256 value) private pure returns (uint120) {
        return value > type(uint120).max ? type(uint120).max : uint120(value);
    }
}
