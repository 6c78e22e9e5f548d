// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {LeaseTerms} from "../types/Terms.sol";

/// @title Terms that were checked once
/// @notice Solidity proves at every read that a calldata field has no stray high bits, which is half of what an
/// opening computes. Here one sweep at opening proves it for all fields; from then on the id, a digest of the very
/// words, vouches for them, and reads are bare loads.
/// @dev Use on terms that passed {check} in this call, or whose id was found in storage: stray bits make another id.
library Clean {
    /// @dev True when no field has a bit above its type.
    function check(LeaseTerms calldata terms) internal pure returns (bool clean) {
        assembly ("memory-safe") {
            function word(base, index) -> value {
                value := calldataload(add(base, shl(5, index)))
            }
            // buyer, provider, meter, token
            let stray := shr(160, or(or(word(terms, 0), word(terms, 1)), or(word(terms, 5), word(terms, 7))))
            // units
            stray := or(stray, shr(64, word(terms, 3)))
            // unstaked, meterMaySignLast
            stray := or(stray, shr(1, or(word(terms, 4), word(terms, 6))))
            // rate
            stray := or(stray, shr(128, word(terms, 8)))
            // deposit, prepay, bond, compensationCap, providerBreakFee, buyerBreakFee
            stray := or(
                stray,
                shr(96, or(or(word(terms, 9), word(terms, 10)), or(word(terms, 11), word(terms, 12))))
            )
            stray := or(stray, shr(96, or(word(terms, 13), word(terms, 14))))
            // kind
            stray := or(stray, shr(8, word(terms, 15)))
            // start, end, openBy
            stray := or(stray, shr(40, or(or(word(terms, 16), word(terms, 17)), word(terms, 18))))
            // prepare, notice, slack, version
            stray := or(
                stray,
                shr(32, or(or(word(terms, 19), word(terms, 20)), or(word(terms, 21), word(terms, 23))))
            )
            // uptimePromise
            stray := or(stray, shr(16, word(terms, 22)))
            clean := iszero(stray)
        }
    }

    function buyer(LeaseTerms calldata terms) internal pure returns (address value) {
        assembly ("memory-safe") {
            value := calldataload(terms)
        }
    }

    function provider(LeaseTerms calldata terms) internal pure returns (address value) {
        assembly ("memory-safe") {
            value := calldataload(add(terms, 0x20))
        }
    }

    function units(LeaseTerms calldata terms) internal pure returns (uint64 value) {
        assembly ("memory-safe") {
            value := calldataload(add(terms, 0x60))
        }
    }

    function unstaked(LeaseTerms calldata terms) internal pure returns (bool value) {
        assembly ("memory-safe") {
            value := calldataload(add(terms, 0x80))
        }
    }

    function meter(LeaseTerms calldata terms) internal pure returns (address value) {
        assembly ("memory-safe") {
            value := calldataload(add(terms, 0xa0))
        }
    }

    function meterMaySignLast(LeaseTerms calldata terms) internal pure returns (bool value) {
        assembly ("memory-safe") {
            value := calldataload(add(terms, 0xc0))
        }
    }

    function token(LeaseTerms calldata terms) internal pure returns (address value) {
        assembly ("memory-safe") {
            value := calldataload(add(terms, 0xe0))
        }
    }

    function rate(LeaseTerms calldata terms) internal pure returns (uint128 value) {
        assembly ("memory-safe") {
            value := calldataload(add(terms, 0x100))
        }
    }

    function deposit(LeaseTerms calldata terms) internal pure returns (uint96 value) {
        assembly ("memory-safe") {
            value := calldataload(add(terms, 0x120))
        }
    }

    function prepay(LeaseTerms calldata terms) internal pure returns (uint96 value) {
        assembly ("memory-safe") {
            value := calldataload(add(terms, 0x140))
        }
    }

    function bond(LeaseTerms calldata terms) internal pure returns (uint96 value) {
        assembly ("memory-safe") {
            value := calldataload(add(terms, 0x160))
        }
    }

    function compensationCap(LeaseTerms calldata terms) internal pure returns (uint96 value) {
        assembly ("memory-safe") {
            value := calldataload(add(terms, 0x180))
        }
    }

    function providerBreakFee(LeaseTerms calldata terms) internal pure returns (uint96 value) {
        assembly ("memory-safe") {
            value := calldataload(add(terms, 0x1a0))
        }
    }

    function buyerBreakFee(LeaseTerms calldata terms) internal pure returns (uint96 value) {
        assembly ("memory-safe") {
            value := calldataload(add(terms, 0x1c0))
        }
    }

    function kind(LeaseTerms calldata terms) internal pure returns (uint8 value) {
        assembly ("memory-safe") {
            value := calldataload(add(terms, 0x1e0))
        }
    }

    function start(LeaseTerms calldata terms) internal pure returns (uint40 value) {
        assembly ("memory-safe") {
            value := calldataload(add(terms, 0x200))
        }
    }

    function end(LeaseTerms calldata terms) internal pure returns (uint40 value) {
        assembly ("memory-safe") {
            value := calldataload(add(terms, 0x220))
        }
    }

    function openBy(LeaseTerms calldata terms) internal pure returns (uint40 value) {
        assembly ("memory-safe") {
            value := calldataload(add(terms, 0x240))
        }
    }

    function prepare(LeaseTerms calldata terms) internal pure returns (uint32 value) {
        assembly ("memory-safe") {
            value := calldataload(add(terms, 0x260))
        }
    }

    function noticeSpan(LeaseTerms calldata terms) internal pure returns (uint32 value) {
        assembly ("memory-safe") {
            value := calldataload(add(terms, 0x280))
        }
    }

    function slack(LeaseTerms calldata terms) internal pure returns (uint32 value) {
        assembly ("memory-safe") {
            value := calldataload(add(terms, 0x2a0))
        }
    }

    function version(LeaseTerms calldata terms) internal pure returns (uint32 value) {
        assembly ("memory-safe") {
            value := calldataload(add(terms, 0x2e0))
        }
    }
}
