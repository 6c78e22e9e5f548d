// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Auth} from "../src/types/Authorization.sol";
import {LeaseTerms, Voucher} from "../src/types/Terms.sol";
import {Base} from "./Base.sol";

/// @title What a lease costs as whole transactions
/// @notice Intrinsic gas and calldata included, every slot cold, refunds deducted; both parties had balances and
/// the token's pools had seen a fee before. The buyer gets part of its deposit back.
contract GasTest is Base {
    uint256 private constant LEASE_BUDGET = 170_000;
    uint256 private constant SETTLE_BUDGET = 52_000;

    function setUp() public override {
        super.setUp();
        LeaseTerms memory terms = _terms();
        terms.jobDigest = keccak256("a lease before");
        _open(terms);
        vm.warp(START + 1 hours);
        _closeWell(terms, 3_600_000);
    }

    /// forge-config: default.isolate = true
    function test_AWholeLeaseStaysWithinItsBudget() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = leases.leaseId(terms);
        bytes memory buyerSignature = _sign(BUYER_KEY, id);
        bytes memory providerSignature = _sign(PROVIDER_KEY, id);
        vm.prank(relayer);
        leases.open(terms, buyerSignature, providerSignature);
        uint256 opening = vm.lastCallGas().gasTotalUsed;

        vm.warp(vm.getBlockTimestamp() + 30 minutes);
        Voucher memory voucher = _voucher(terms, 1_800_000, false);
        bytes memory signature = _signVoucher(METER_KEY, voucher);
        vm.prank(relayer);
        leases.settle(terms, voucher, signature);
        uint256 settling = vm.lastCallGas().gasTotalUsed;

        vm.warp(vm.getBlockTimestamp() + 30 minutes);
        voucher = _voucher(terms, 3_000_000, true);
        signature = _signVoucher(BUYER_KEY, voucher);
        Auth memory auth = _closeAuth(PROVIDER_KEY, id, voucher);
        vm.prank(relayer);
        leases.close(terms, voucher, signature, auth);
        uint256 closing = vm.lastCallGas().gasTotalUsed;

        _log("open (relayed)", opening);
        _log("settle", settling);
        _log("close with last (relayed)", closing);
        _log("open + close", opening + closing);
        vm.assertLe(opening + closing, LEASE_BUDGET, "a whole lease");
        vm.assertLe(settling, SETTLE_BUDGET, "one more settlement");
    }

    /// forge-config: default.isolate = true
    function test_AProviderThatClosesItselfPaysLess() external {
        LeaseTerms memory terms = _terms();
        bytes32 id = leases.leaseId(terms);
        bytes memory buyerSignature = _sign(BUYER_KEY, id);
        bytes memory providerSignature = _sign(PROVIDER_KEY, id);
        leases.open(terms, buyerSignature, providerSignature);
        uint256 opening = vm.lastCallGas().gasTotalUsed;

        vm.warp(vm.getBlockTimestamp() + 1 hours);
        Voucher memory voucher = _voucher(terms, 3_000_000, true);
        bytes memory signature = _signVoucher(BUYER_KEY, voucher);
        Auth memory auth = _direct();
        vm.prank(provider);
        leases.close(terms, voucher, signature, auth);
        uint256 closing = vm.lastCallGas().gasTotalUsed;

        _log("close with last (by the provider)", closing);
        _log("open + close", opening + closing);
        vm.assertLe(opening + closing, LEASE_BUDGET, "a whole lease");
    }
}
