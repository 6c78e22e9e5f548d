// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ILeases} from "../../src/interfaces/ILeases.sol";
import {LeaseTerms, Voucher} from "../../src/types/Terms.sol";
import {Base} from "../Base.sol";

contract MoneyFuzz is Base {
    function _hourLong(uint128 rate, uint32 slack) private view returns (LeaseTerms memory terms) {
        terms = _terms();
        terms.rate = uint128(_bound(rate, 0, 1e26));
        terms.schedule.slack = uint32(_bound(slack, 0, 1 days));
        terms.deposit = 1e12;
        terms.prepay = 0;
        terms.compensationCap = uint96(uint256(terms.rate) * 1 hours / 1e18);
        terms.bond = terms.compensationCap + terms.providerBreakFee;
    }

    /// @dev 6 and 21: however split and in whatever order, the provider nets the highest voucher less one fee.
    function testFuzz_SplittingAndOrderChangeNothing(uint96[8] memory amounts, uint256 order) external {
        LeaseTerms memory terms = _terms();
        bytes32 id = _open(terms);
        vm.warp(START + 1 hours);
        uint256 before = _free(provider);
        uint96 highest;
        for (uint256 i; i < 8; ++i) {
            uint96 amount = uint96(_bound(amounts[(i + order % 8) % 8], 60_000, 3_600_000));
            if (amount > highest) highest = amount;
            _settle(terms, amount);
            vm.assertEq(leases.lease(id).paid, highest, "the maximum so far");
        }
        uint256 fee = uint256(highest) * 250 / 10_000;
        vm.assertEq(_free(provider) - before, highest - fee, "one fee");
        (uint256 sink, uint256 watchers,,) = leases.pools(address(usd));
        _closeWell(terms, highest);
        (uint256 sinkAfter, uint256 watchersAfter,,) = leases.pools(address(usd));
        vm.assertEq(sinkAfter + watchersAfter - sink - watchers, fee, "into the pools");
        vm.assertEq(sinkAfter - sink, fee * 6_000 / 10_000, "60 %, rounded for the watchers");
    }

    /// @dev 2: the cap is the rule's formula, and never shrinks with time.
    function testFuzz_TheCapIsItsFormula(uint128 rate, uint32 slack, uint32 at, uint32 later) external {
        LeaseTerms memory terms = _hourLong(rate, slack);
        usd.mint(address(this), 1e30);
        _fund(buyer, 1e12);
        _fund(provider, 1e30);
        _open(terms);
        uint256 time = START + _bound(at, 0, 3 days);
        uint256 elapsed = time - START > 1 hours ? 1 hours : time - START;
        uint256 most = uint256(terms.rate) * (elapsed + terms.schedule.slack) / 1e18 + 1;
        if (most > terms.deposit) most = terms.deposit;
        uint256 answered = leases.cap(terms, uint40(time));
        vm.assertEq(answered, most, "cap");
        vm.assertGe(leases.cap(terms, uint40(time + _bound(later, 0, 3 days))), answered, "monotone");
    }

    /// @dev A voucher one above the cap is refused, one at the cap is not, at any moment.
    function testFuzz_TheCapIsSharp(uint128 rate, uint32 slack, uint32 at) external {
        LeaseTerms memory terms = _hourLong(rate, slack);
        _fund(provider, 1e30);
        _open(terms);
        vm.warp(START + _bound(at, 0, 1 days));
        uint96 most = uint96(leases.cap(terms, uint40(vm.getBlockTimestamp())));
        Voucher memory voucher = _voucher(terms, most + 1, false);
        bytes memory signature = _signVoucher(METER_KEY, voucher);
        _expect(abi.encodeWithSelector(ILeases.CumulativeOutOfRange.selector, uint256(most) + 1, 0, most));
        leases.settle(terms, voucher, signature);
        _settle(terms, most);
    }

    /// @dev 7: what a default pays is the rule's formula, from the bond, and never above the cap.
    function testFuzz_CompensationIsItsFormula(uint32 at, uint96 paid, uint96 limit) external {
        LeaseTerms memory terms = _terms();
        terms.compensationCap = uint96(_bound(limit, 3_600_000, 10_000_000));
        terms.bond = terms.compensationCap + terms.providerBreakFee;
        bytes32 id = _open(terms);
        uint256 time = START + _bound(at, 0, 1 hours);
        vm.warp(time);
        paid = uint96(_bound(paid, terms.prepay, leases.cap(terms, uint40(time))));
        _settle(terms, paid);
        _challenge(terms);
        vm.warp(time + 15 minutes + 1);
        leases.defaulted(terms);
        uint256 expected = time < START + 10 minutes ? paid : uint256(paid) + 1_800_000;
        if (expected > terms.compensationCap) expected = terms.compensationCap;
        vm.assertEq(leases.lease(id).compensated, expected, "compensation");
    }

    /// @dev Stray callers cannot forge anything with keys that are not the parties'.
    function testFuzz_NoOtherKeyOpensOrSettles(uint256 key, uint96 amount) external {
        key = _bound(key, 1, type(uint128).max);
        vm.assume(key != BUYER_KEY && key != PROVIDER_KEY && key != METER_KEY);
        LeaseTerms memory terms = _terms();
        bytes32 id = leases.leaseId(terms);
        bytes memory forged = _sign(key, id);
        bytes memory good = _sign(PROVIDER_KEY, id);
        vm.expectRevert();
        leases.open(terms, forged, good);
        good = _sign(BUYER_KEY, id);
        vm.expectRevert();
        leases.open(terms, good, forged);
        _open(terms);
        Voucher memory voucher = _voucher(terms, uint96(_bound(amount, 60_000, 60_001)), false);
        forged = _signVoucher(key, voucher);
        vm.expectRevert();
        leases.settle(terms, voucher, forged);
    }
}
