// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {FeeAuthorization} from "../types/Authorization.sol";
import {CheckpointRecord, LeaseTerms, Voucher} from "../types/Terms.sol";

/// @title The EIP-712 types of the leases' contract
/// @notice Struct hashes only; the contract adds its domain.
library Actions {
    bytes32 internal constant SCHEDULE_TYPEHASH = keccak256(
        "Schedule(uint40 start,uint40 end,uint40 openBy,uint32 prepare,uint32 notice,uint32 slack)"
    );
    bytes32 internal constant TERMS_TYPEHASH = keccak256(
        "LeaseTerms(address buyer,address provider,bytes32 device,uint64 units,bool unstaked,address meter,bool meterMaySignLast,address token,uint128 rate,uint96 deposit,uint96 prepay,uint96 bond,uint96 compensationCap,uint96 providerBreakFee,uint96 buyerBreakFee,uint8 kind,Schedule schedule,uint16 uptimePromise,uint32 version,bytes32 jobDigest,bytes32 tosHash,bytes32 parent)Schedule(uint40 start,uint40 end,uint40 openBy,uint32 prepare,uint32 notice,uint32 slack)"
    );
    bytes32 internal constant VOUCHER_TYPEHASH =
        keccak256("Voucher(bytes32 lease,uint96 cumulative,uint40 notBefore,bool last)");
    bytes32 internal constant CHECKPOINT_TYPEHASH =
        keccak256("CheckpointRecord(bytes32 lease,uint96 paidAt,bytes32 root,uint40 at)");

    bytes32 internal constant DEPOSIT_TYPEHASH =
        keccak256("Deposit(address token,address account,uint256 amount,uint256 nonce,uint40 deadline)");
    bytes32 internal constant WITHDRAW_TYPEHASH = keccak256(
        "Withdraw(address token,address account,address to,uint256 amount,uint256 nonce,uint40 deadline)"
    );
    bytes32 internal constant FEE_TYPEHASH = keccak256(
        "FeeAuthorization(address payer,address relayer,address token,uint96 amount,bytes32 calls,uint256 nonce,uint40 deadline)"
    );

    bytes32 internal constant NOTICE_TYPEHASH =
        keccak256("Notice(bytes32 lease,uint8 reason,uint40 previous,uint40 deadline)");
    bytes32 internal constant CLOSE_TYPEHASH =
        keccak256("Close(bytes32 lease,bytes32 voucher,uint40 deadline)");
    bytes32 internal constant REQUEST_CLOSE_TYPEHASH =
        keccak256("RequestClose(bytes32 lease,uint40 deadline)");
    bytes32 internal constant CHALLENGE_TYPEHASH =
        keccak256("Challenge(bytes32 lease,uint32 sequence,uint40 deadline)");
    bytes32 internal constant ANSWER_TYPEHASH =
        keccak256("Answer(bytes32 lease,uint40 challengedAt,uint40 deadline)");
    bytes32 internal constant DISPUTE_TYPEHASH =
        keccak256("Dispute(bytes32 lease,uint96 claim,bytes32 evidence,uint40 deadline)");

    /// @dev Terms are static, so calldata already holds the encoding: 16 words, the schedule's 6, then 5 more.
    /// A word with dirty high bits hashes to an id that nobody signed.
    function hash(LeaseTerms calldata terms) internal pure returns (bytes32 result) {
        bytes32 scheduleType = SCHEDULE_TYPEHASH;
        bytes32 termsType = TERMS_TYPEHASH;
        assembly ("memory-safe") {
            let ptr := mload(0x40)
            mstore(ptr, scheduleType)
            calldatacopy(add(ptr, 0x20), add(terms, 0x200), 0xc0)
            let schedule := keccak256(ptr, 0xe0)
            mstore(ptr, termsType)
            calldatacopy(add(ptr, 0x20), terms, 0x200)
            mstore(add(ptr, 0x220), schedule)
            calldatacopy(add(ptr, 0x240), add(terms, 0x2c0), 0xa0)
            result := keccak256(ptr, 0x2e0)
        }
    }

    /// @dev As {hash} of terms: four static words.
    function hash(Voucher calldata voucher) internal pure returns (bytes32 result) {
        bytes32 voucherType = VOUCHER_TYPEHASH;
        assembly ("memory-safe") {
            let ptr := mload(0x40)
            mstore(ptr, voucherType)
            calldatacopy(add(ptr, 0x20), voucher, 0x80)
            result := keccak256(ptr, 0xa0)
        }
    }

    /// @param voucher The struct hash of the voucher that the provider closes with, or zero.
    function hashClose(bytes32 lease, bytes32 voucher, uint256 deadline)
        internal
        pure
        returns (bytes32 result)
    {
        bytes32 closeType = CLOSE_TYPEHASH;
        assembly ("memory-safe") {
            let ptr := mload(0x40)
            mstore(ptr, closeType)
            mstore(add(ptr, 0x20), lease)
            mstore(add(ptr, 0x40), voucher)
            mstore(add(ptr, 0x60), deadline)
            result := keccak256(ptr, 0x80)
        }
    }

    function hash(CheckpointRecord calldata record) internal pure returns (bytes32) {
        return keccak256(abi.encode(CHECKPOINT_TYPEHASH, record.lease, record.paidAt, record.root, record.at));
    }

    function hash(FeeAuthorization calldata fee) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(
                FEE_TYPEHASH,
                fee.payer,
                fee.relayer,
                fee.token,
                fee.amount,
                fee.calls,
                fee.nonce,
                fee.deadline
            )
        );
    }
}
