// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {LeaseView} from "../../src/interfaces/IRemedies.sol";
import {State} from "../../src/types/LeaseWord.sol";
import {LeaseTerms, Voucher} from "../../src/types/Terms.sol";
import {CaseBase} from "../CaseBase.sol";
import {ProductBase} from "../ProductBase.sol";

/// @title Leases of the devices on trial
/// @notice One buyer rents from the provider whose devices the court judges. What a handler cannot do is refused.
abstract contract Tenancy is ProductBase, CaseBase {
    LeaseTerms[] private _tenancies;
    bytes32[2] public devices;
    mapping(bytes4 selector => uint256) public done;

    function setUp() public virtual override(ProductBase, CaseBase) {
        super.setUp();
        devices[0] = device;
        devices[1] = _listDevice(provider, address(0xD2), 4);
    }

    // --- what the invariants read -----------------------------------------------------------------------------

    function tenancies() external view returns (uint256) {
        return _tenancies.length;
    }

    function tenancy(uint256 i) external view returns (LeaseTerms memory) {
        return _tenancies[i];
    }

    // --- punishment alters no lease ---------------------------------------------------------------------------

    /// @dev 19: whatever the court does in the body, no lease's word changes.
    modifier altersNoLease() {
        bytes32 before = _leaseWords();
        _;
        vm.assertEq(_leaseWords(), before, "19: no lease is altered");
    }

    function _leaseWords() private view returns (bytes32 digest) {
        for (uint256 i; i < _tenancies.length; ++i) {
            digest = keccak256(abi.encode(digest, leases.word(leases.leaseId(_tenancies[i]))));
        }
    }

    // --- a lease's way ----------------------------------------------------------------------------------------

    function rent(uint256 seed, uint32 span) external {
        LeaseTerms memory terms = _harmedTerms();
        terms.schedule.start += uint40(seed % 60);
        terms.schedule.end = terms.schedule.start + uint40(_bound(span, 30 minutes, 5 hours));
        terms.device = devices[seed % 2];
        terms.units = uint64(1 << ((seed >> 8) % 4));
        terms.jobDigest = bytes32(seed);
        terms.bond += uint96((seed >> 16) % 1_000);
        bytes32 id = leases.leaseId(terms);
        try leases.open(terms, _sign(BUYER_KEY, id), _sign(PROVIDER_KEY, id)) {
            _tenancies.push(terms);
            ++done[this.rent.selector];
        } catch {}
    }

    function settle(uint256 pick, uint96 amount) external {
        if (_tenancies.length == 0) return;
        LeaseTerms memory terms = _tenancy(pick);
        bytes32 id = leases.leaseId(terms);
        uint96 before = leases.lease(id).paid;
        uint256 most = leases.cap(terms, uint40(vm.getBlockTimestamp()));
        Voucher memory voucher = Voucher(id, uint96(_bound(amount, terms.prepay, most + 1)), 0, false);
        try leases.settle(terms, voucher, _signVoucher(METER_KEY, voucher)) {
            vm.assertGe(leases.lease(id).paid, before, "3: paid never shrinks");
            vm.assertLe(leases.lease(id).paid, most, "2: within the cap");
            ++done[this.settle.selector];
        } catch {}
    }

    function part(uint256 pick, uint96 amount, bool well) external {
        if (_tenancies.length == 0) return;
        LeaseTerms memory terms = _tenancy(pick);
        uint256 most = leases.cap(terms, uint40(vm.getBlockTimestamp()));
        Voucher memory voucher =
            Voucher(leases.leaseId(terms), uint96(_bound(amount, terms.prepay, most)), 0, well);
        bytes memory signature = _signVoucher(well ? BUYER_KEY : METER_KEY, voucher);
        vm.prank(provider);
        try leases.close(terms, voucher, signature, _direct()) {
            ++done[this.part.selector];
        } catch {}
    }

    function challenge(uint256 pick) external {
        if (_tenancies.length == 0) return;
        LeaseTerms memory terms = _tenancy(pick);
        vm.prank(buyer);
        try leases.challenge(terms, _direct()) {
            ++done[this.challenge.selector];
        } catch {}
    }

    function answer(uint256 pick) external {
        if (_tenancies.length == 0) return;
        LeaseTerms memory terms = _tenancy(pick);
        vm.prank(provider);
        try leases.answer(terms, _direct()) {
            ++done[this.answer.selector];
        } catch {}
    }

    /// @dev A challenge that nobody answered, after its window.
    function fail(uint256 pick) external {
        if (_tenancies.length == 0) return;
        LeaseTerms memory terms = _tenancy(pick);
        if (!leases.lease(leases.leaseId(terms)).challenged) return;
        vm.warp(vm.getBlockTimestamp() + 15 minutes + 1);
        uint256 stakes = _stakes();
        try leases.defaulted(terms) {
            vm.assertEq(_stakes(), stakes, "15: a default takes no stake");
            ++done[this.fail.selector];
        } catch {}
    }

    function exit(uint256 pick, uint8 which) external {
        if (_tenancies.length == 0) return;
        LeaseTerms memory terms = _tenancy(pick);
        bytes memory call = which % 4 == 0
            ? abi.encodeCall(leases.requestClose, (terms, _direct()))
            : which % 4 == 1
                ? abi.encodeCall(leases.finalize, (terms))
                : which % 4 == 2
                    ? abi.encodeCall(leases.expire, (terms))
                    : abi.encodeCall(leases.releaseBond, (terms));
        if (which % 4 == 0) vm.prank(buyer);
        (bool ended,) = address(leases).call(call);
        if (ended) ++done[this.exit.selector];
    }

    // --- from a lease to the court and back -------------------------------------------------------------------

    function dispute(uint256 pick, uint96 claim) external {
        if (_tenancies.length == 0) return;
        LeaseTerms memory terms = _tenancy(pick);
        vm.prank(buyer);
        try leases.dispute(terms, uint96(_bound(claim, 1, terms.compensationCap)), 0, _direct()) {
            ++done[this.dispute.selector];
        } catch {}
    }

    function resolve(uint256 pick) external {
        if (_tenancies.length == 0) return;
        LeaseTerms memory terms = _tenancy(pick);
        LeaseView memory before = leases.lease(leases.leaseId(terms));
        (uint256 held, uint256 stakes) = (_free(buyer), _stakes());
        uint256 others = _compensated() - before.compensated;
        try leases.resolve(terms) {
            LeaseView memory later = leases.lease(leases.leaseId(terms));
            uint256 award = later.compensated - before.compensated;
            vm.assertLe(award, before.claim, "15: at most the claim");
            vm.assertEq(_compensated() - later.compensated, others, "15: of exactly one bond");
            vm.assertEq(_stakes(), stakes, "15: and of no stake");
            vm.assertTrue(_free(buyer) == held || _free(buyer) - held == award + disputeBond(before), "paid");
            ++done[this.resolve.selector];
        } catch {}
    }

    // --- stakes -----------------------------------------------------------------------------------------------

    function stake(uint256 pick, uint96 amount) external {
        vm.prank(provider);
        try registry.stake(devices[pick % 2], uint96(_bound(amount, 1, 1e7)), _direct()) {
            ++done[this.stake.selector];
        } catch {}
    }

    function unbond(uint256 pick, bool out) external {
        bytes32 id = devices[pick % 2];
        if (!out) {
            vm.prank(provider);
            try registry.beginUnbond(id, provider, _direct()) {} catch {}
            return;
        }
        uint256 held = registry.device(id).stake;
        uint256 free = _stakeOf(provider);
        uint256 frozen = registry.frozenUntil(id);
        try registry.withdrawStake(id) {
            vm.assertGe(vm.getBlockTimestamp(), frozen, "16: a frozen stake waits");
            vm.assertEq(_stakeOf(provider) - free, held, "what is left of a stake returns");
            ++done[this.unbond.selector];
        } catch {}
    }

    // --- reckoning --------------------------------------------------------------------------------------------

    /// @dev What the lease holds of an open dispute.
    function disputeBond(LeaseView memory it) public pure returns (uint256) {
        return it.disputed ? (uint256(it.claim) * 1_000 + 9_999) / 10_000 : 0;
    }

    function _tenancy(uint256 pick) internal view returns (LeaseTerms memory) {
        uint256 count = _tenancies.length;
        if (pick % 4 != 0 && count > 4) return _tenancies[count - 1 - (pick >> 2) % 4];
        return _tenancies[(pick >> 2) % count];
    }

    function _stakes() internal view returns (uint256) {
        return registry.device(devices[0]).stake + registry.device(devices[1]).stake;
    }

    function _compensated() private view returns (uint256 sum) {
        for (uint256 i; i < _tenancies.length; ++i) {
            sum += leases.lease(leases.leaseId(_tenancies[i])).compensated;
        }
    }

    /// @dev What all live and settled leases hold of the fee token.
    function locked() external view returns (uint256 sum) {
        for (uint256 i; i < _tenancies.length; ++i) {
            LeaseTerms memory terms = _tenancies[i];
            LeaseView memory it = leases.lease(leases.leaseId(terms));
            if (it.state == State.Closed) continue;
            sum += terms.bond - it.compensated + disputeBond(it);
            if (it.challenged) sum += uint256(terms.rate) * 30 minutes / 1e18;
            if (it.state != State.Settled) {
                sum += terms.deposit - (it.paid - uint256(it.paid) * 250 / 10_000);
            }
        }
    }
}
