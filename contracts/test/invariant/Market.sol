// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Verdict} from "../../src/interfaces/ICourt.sol";
import {ILeases} from "../../src/interfaces/ILeases.sol";
import {LeaseView, Reason} from "../../src/interfaces/IRemedies.sol";
import {State} from "../../src/types/LeaseWord.sol";
import {Parameters} from "../../src/types/Parameters.sol";
import {CheckpointRecord, LeaseTerms, Schedule, Voucher} from "../../src/types/Terms.sol";
import {Base} from "../Base.sol";
import {Vm} from "../Test.sol";
import {Judge} from "../mocks/Judge.sol";

/// @title A market that the invariants are checked on
/// @notice Two buyers, two providers, a sponsor and a relayer trade in two tokens on three devices. Every handler
/// makes one call with whatever the fuzzer chose, keeps a ghost of what it means, and asserts what holds for that
/// step. A call that the rules refuse is simply refused; `done` counts those that were not.
contract Market is Base {
    struct Ghost {
        LeaseTerms terms;
        bytes32 id;
        bool closed;
        bool lastSubmitted;
        bool settledOnce;
        uint256 challengeBond;
        uint256 disputeBond;
        uint96 paid;
        uint96 highest;
        uint256 buyerGot;
        uint40 settledAt;
        bytes32 parameters;
    }

    Ghost[] private _ghosts;
    mapping(bytes32 id => uint256) private _opened;
    address[2] public buyers;
    address[2] public providers;
    uint256[2] private _buyerKeys = [uint256(0xB1), 0xB2];
    uint256[2] private _providerKeys = [uint256(0xA1), 0xA2];
    address public sponsor = vm.addr(0x59);
    bytes32[3] public devices;
    Judge public court;
    /// @dev Coins that somebody sent without depositing them.
    uint256 public donated;
    mapping(bytes4 selector => uint256) public done;

    function setUp() public override {
        super.setUp();
        for (uint256 i; i < 2; ++i) {
            buyers[i] = vm.addr(_buyerKeys[i]);
            providers[i] = vm.addr(_providerKeys[i]);
            _fund(buyers[i], 1e10);
            _fund(providers[i], 1e10);
        }
        _fund(sponsor, 1e10);
        devices[0] = _listDevice(providers[0], address(1), 4);
        devices[1] = _listDevice(providers[0], address(2), 64);
        devices[2] = _listDevice(providers[1], address(3), 2);
    }

    function _parameters() internal override returns (Parameters memory parameters) {
        parameters = super._parameters();
        court = new Judge();
        parameters.court = court;
        parameters.window = 10 minutes;
        parameters.bondDelay = 10 minutes;
        parameters.answerWindow = 1 minutes;
        parameters.hardLimit = 1 hours;
        parameters.repeatWindow = 1 hours;
        parameters.minCapOnDemand = 60;
        parameters.minCapSpot = 10;
        parameters.minCapReserved = 60;
        parameters.refundWindow = 2 minutes;
        parameters.compensationSpan = 10 minutes;
        parameters.bonusSpan = 1 minutes;
        parameters.challengeSpan = 1 minutes;
    }

    function ghosts() external view returns (uint256) {
        return _ghosts.length;
    }

    function ghost(uint256 i) external view returns (Ghost memory) {
        return _ghosts[i];
    }

    function tradewind() external view returns (address, address, address, address) {
        return (address(leases), address(registry), address(usd), address(twd));
    }

    // --- opening ----------------------------------------------------------------------------------------------

    function open(uint256 seed, uint96 money, uint32 span, uint128 rate) external {
        LeaseTerms memory terms = _draw(seed, money, span, rate);
        bytes32 id = leases.leaseId(terms);
        bytes memory buyerSignature = _sign(_keyOf(terms.buyer), id);
        bytes memory providerSignature = _sign(_keyOf(terms.provider), id);
        uint256 free = leases.balanceOf(terms.token, terms.buyer);
        try leases.open(terms, buyerSignature, providerSignature) {
            vm.assertEq(_opened[id]++, 0, "10: an id opens at most once");
            vm.assertEq(free - leases.balanceOf(terms.token, terms.buyer), terms.deposit, "deposit");
            (Parameters memory parameters,) = leases.parameters(terms.version);
            Ghost storage made = _ghosts.push();
            made.terms = terms;
            made.id = id;
            made.parameters = keccak256(abi.encode(parameters));
            ++done[this.open.selector];
        } catch {}
    }

    function reopen(uint256 pick) external {
        if (_ghosts.length == 0) return;
        Ghost storage it = _pick(pick);
        bytes memory buyerSignature = _sign(_keyOf(it.terms.buyer), it.id);
        bytes memory providerSignature = _sign(_keyOf(it.terms.provider), it.id);
        try leases.open(it.terms, buyerSignature, providerSignature) {
            vm.assertTrue(false, "10: an id opened twice");
        } catch {}
    }

    /// @dev Terms that mostly hold; what does not is the contract's to refuse.
    function _draw(uint256 seed, uint96 money, uint32 span, uint128 rate)
        private
        view
        returns (LeaseTerms memory terms)
    {
        uint40 now_ = uint40(vm.getBlockTimestamp());
        terms.buyer = buyers[seed & 1];
        uint256 which = (seed >> 1) % 3;
        terms.device = devices[which];
        terms.provider = providers[which / 2];
        terms.units = uint64(1 << ((seed >> 3) % 6));
        if ((seed >> 9) % 8 == 0) terms.units |= terms.units << 1;
        terms.unstaked = (seed >> 12) % 4 == 0;
        if ((seed >> 14) % 8 == 0) {
            terms.device = 0;
            terms.units = 0;
            terms.unstaked = true;
        }
        terms.meter = meter;
        terms.meterMaySignLast = (seed >> 17) & 1 == 1;
        terms.token = (seed >> 18) & 1 == 1 ? address(usd) : address(twd);
        terms.rate = uint128(_bound(rate, 1, 1_000_000e18));
        terms.kind = uint8((seed >> 19) % 3);
        terms.schedule = Schedule({
            start: now_ + uint40((seed >> 21) % 300) - 30,
            end: 0,
            openBy: now_ + 30,
            prepare: uint32((seed >> 30) % 60),
            notice: uint32((seed >> 36) % 120),
            slack: uint32((seed >> 43) % 120)
        });
        terms.schedule.end = terms.schedule.start + uint40(_bound(span, 31, 1 hours));
        terms.deposit = uint96(_bound(money, 0, 1e9));
        uint256 most = uint256(terms.rate) * terms.schedule.slack / 1e18;
        terms.prepay = uint96(_bound(seed >> 50, 0, most < terms.deposit ? most : terms.deposit));
        if (terms.kind == 2) {
            terms.buyerBreakFee = uint96(_bound(seed >> 60, 0, terms.deposit - terms.prepay));
        }
        uint256 least = uint256(terms.rate) * 60 / 1e18;
        terms.compensationCap = uint96(_bound(seed >> 70, least, least + 1e8));
        terms.providerBreakFee = uint96(_bound(seed >> 80, 0, 1e8));
        terms.bond = terms.compensationCap + terms.providerBreakFee + uint96((seed >> 90) % 100);
        terms.version = version;
        terms.jobDigest = bytes32(seed);
    }

    // --- vouchers ---------------------------------------------------------------------------------------------

    function settle(uint256 pick, uint96 amount, uint40 notBefore, bool forged) external {
        if (_ghosts.length == 0) return;
        Ghost storage it = _pick(pick);
        Voucher memory voucher = _drawVoucher(it, amount, notBefore, false);
        bytes memory signature = _signVoucher(forged ? STRANGER_KEY : METER_KEY, voucher);
        uint256 free = leases.balanceOf(it.terms.token, it.terms.provider);
        uint256 most = leases.cap(it.terms, uint40(vm.getBlockTimestamp()));
        try leases.settle(it.terms, voucher, signature) {
            uint96 paid = _seePaid(it);
            if (voucher.cumulative > it.highest) {
                vm.assertFalse(forged, "a forged voucher settled");
                vm.assertLe(voucher.notBefore, vm.getBlockTimestamp(), "a rung before its time");
                it.highest = voucher.cumulative;
            }
            vm.assertEq(paid, it.highest, "21: the maximum stands");
            vm.assertLe(paid, most, "2: paid within the cap");
            it.settledOnce = it.settledOnce || paid != 0;
            vm.assertGe(leases.balanceOf(it.terms.token, it.terms.provider), free, "a settlement pays");
            ++done[this.settle.selector];
        } catch {}
    }

    function _drawVoucher(Ghost storage it, uint96 amount, uint40 notBefore, bool last)
        private
        view
        returns (Voucher memory)
    {
        uint256 most = leases.cap(it.terms, uint40(vm.getBlockTimestamp()));
        // Mostly a step up, since a stale voucher says little.
        uint256 least = amount % 4 != 0 && it.paid < most ? it.paid + 1 : it.terms.prepay / 2;
        uint96 cumulative = uint96(_bound(amount, least, most + 1));
        uint256 now_ = vm.getBlockTimestamp();
        uint40 from = notBefore % 4 == 0 ? uint40(_bound(notBefore, now_ - 60, now_ + 60)) : 0;
        return Voucher(it.id, cumulative, from, last);
    }

    // --- the provider's calls ---------------------------------------------------------------------------------

    function closeWell(uint256 pick, uint96 amount, bool byMeter, bool byBuyer) external {
        if (_ghosts.length == 0) return;
        Ghost storage it = _pick(pick);
        Voucher memory voucher = _drawVoucher(it, amount, 1, true);
        bytes memory signature = _signVoucher(byMeter ? METER_KEY : _keyOf(it.terms.buyer), voucher);
        uint256 most = leases.cap(it.terms, uint40(vm.getBlockTimestamp()));
        vm.recordLogs();
        vm.prank(byBuyer ? it.terms.buyer : it.terms.provider);
        try leases.close(it.terms, voucher, signature, _direct()) {
            vm.assertFalse(byBuyer, "22: only the provider closes");
            if (byMeter) vm.assertTrue(it.terms.meterMaySignLast, "the meter may not sign last");
            it.lastSubmitted = true;
            if (voucher.cumulative > it.highest) it.highest = voucher.cumulative;
            vm.assertEq(_seePaid(it), it.highest, "21: the maximum stands");
            vm.assertLe(it.highest, most, "2: paid within the cap");
            it.settledOnce = it.settledOnce || it.highest != 0;
            it.challengeBond = 0;
            _see(it);
            ++done[this.closeWell.selector];
        } catch {}
    }

    function closeEarly(uint256 pick, uint96 amount, bool bare) external {
        if (_ghosts.length == 0) return;
        Ghost storage it = _pick(pick);
        LeaseView memory before = leases.lease(it.id);
        Voucher memory voucher;
        bytes memory signature;
        if (!bare) {
            voucher = _drawVoucher(it, amount, 1, false);
            signature = _signVoucher(METER_KEY, voucher);
        }
        vm.prank(it.terms.provider);
        try leases.close(it.terms, voucher, signature, _direct()) {
            vm.assertFalse(before.challenged, "closed under a challenge");
            if (voucher.cumulative > it.highest) it.highest = voucher.cumulative;
            vm.assertEq(_seePaid(it), it.highest, "21: the maximum stands");
            it.settledOnce = it.settledOnce || it.highest != 0;
            _see(it);
            ++done[this.closeEarly.selector];
        } catch {}
    }

    function notice(uint256 pick, bool reclaim) external {
        if (_ghosts.length == 0) return;
        Ghost storage it = _pick(pick);
        Voucher memory none;
        vm.prank(it.terms.provider);
        try leases.notice(it.terms, reclaim ? Reason.Reclaim : Reason.Unpaid, none, "", _direct()) {
            if (reclaim) vm.assertEq(it.terms.kind, 1, "only spot is reclaimed");
            _seePaid(it);
            ++done[this.notice.selector];
        } catch {}
    }

    function answer(uint256 pick) external {
        if (_ghosts.length == 0) return;
        Ghost storage it = _pickWaiting(pick, false);
        uint256 free = leases.balanceOf(it.terms.token, it.terms.provider);
        vm.prank(it.terms.provider);
        try leases.answer(it.terms, _direct()) {
            vm.assertEq(
                leases.balanceOf(it.terms.token, it.terms.provider) - free, it.challengeBond, "the bond"
            );
            it.challengeBond = 0;
            ++done[this.answer.selector];
        } catch {}
    }

    // --- the buyer's calls ------------------------------------------------------------------------------------

    function requestClose(uint256 pick, bool byProvider) external {
        if (_ghosts.length == 0) return;
        Ghost storage it = _pick(pick);
        vm.prank(byProvider ? it.terms.provider : it.terms.buyer);
        try leases.requestClose(it.terms, _direct()) {
            vm.assertFalse(byProvider, "22: only the buyer requests closing");
            ++done[this.requestClose.selector];
        } catch {}
    }

    function challenge(uint256 pick) external {
        if (_ghosts.length == 0) return;
        Ghost storage it = _pick(pick);
        uint256 free = leases.balanceOf(it.terms.token, it.terms.buyer);
        vm.prank(it.terms.buyer);
        try leases.challenge(it.terms, _direct()) {
            it.challengeBond = free - leases.balanceOf(it.terms.token, it.terms.buyer);
            ++done[this.challenge.selector];
        } catch {}
    }

    function dispute(uint256 pick, uint96 claim) external {
        if (_ghosts.length == 0) return;
        Ghost storage it = _pick(pick);
        claim = uint96(_bound(claim, 1, it.terms.compensationCap + 1));
        uint256 free = leases.balanceOf(it.terms.token, it.terms.buyer);
        vm.prank(it.terms.buyer);
        try leases.dispute(it.terms, claim, 0, _direct()) {
            it.disputeBond = free - leases.balanceOf(it.terms.token, it.terms.buyer);
            ++done[this.dispute.selector];
        } catch {}
    }

    // --- anyone's calls ---------------------------------------------------------------------------------------

    function acknowledge(uint256 pick, uint96 paidAt, uint40 ago) external {
        if (_ghosts.length == 0) return;
        Ghost storage it = _pick(pick);
        uint40 storedAt = uint40(vm.getBlockTimestamp() - _bound(ago, 0, 600));
        CheckpointRecord memory record = CheckpointRecord(it.id, paidAt, 0, storedAt);
        bytes32 digest = leases.checkpointDigest(record);
        bytes memory byProvider = _sign(_keyOf(it.terms.provider), digest);
        try leases.acknowledge(it.terms, record, byProvider, _sign(METER_KEY, digest)) {
            ++done[this.acknowledge.selector];
        } catch {}
    }

    function defaulted(uint256 pick) external {
        if (_ghosts.length == 0) return;
        Ghost storage it = _pickWaiting(pick, false);
        uint256 free = leases.balanceOf(it.terms.token, it.terms.buyer);
        try leases.defaulted(it.terms) {
            LeaseView memory now_ = leases.lease(it.id);
            uint256 gained = leases.balanceOf(it.terms.token, it.terms.buyer) - free;
            vm.assertEq(
                gained,
                it.challengeBond + now_.compensated - it.buyerGot + it.terms.deposit - now_.paid,
                "a default returns the deposit less what was paid, the challenge's bond, and compensates"
            );
            it.buyerGot = now_.compensated;
            it.challengeBond = 0;
            _seePaid(it);
            _see(it);
            ++done[this.defaulted.selector];
        } catch {}
    }

    function resolve(uint256 pick, uint8 verdict, uint96 award, bool credited) external {
        if (_ghosts.length == 0) return;
        Ghost storage it = _pickWaiting(pick, true);
        court.rule(Verdict(verdict % 3), award);
        court.credit(credited);
        try leases.resolve(it.terms) {
            LeaseView memory now_ = leases.lease(it.id);
            it.buyerGot = now_.compensated;
            if (!now_.disputed) it.disputeBond = 0;
            ++done[this.resolve.selector];
        } catch {}
    }

    function exit(uint256 pick, uint8 which) external {
        if (_ghosts.length == 0) return;
        Ghost storage it = _pick(pick);
        bytes memory call = which % 3 == 0
            ? abi.encodeCall(leases.finalize, (it.terms))
            : which % 3 == 1
                ? abi.encodeCall(leases.expire, (it.terms))
                : abi.encodeCall(leases.releaseBond, (it.terms));
        vm.recordLogs();
        (bool ended,) = address(leases).call(call);
        if (ended) {
            _seePaid(it);
            _see(it);
            ++done[this.exit.selector];
        }
    }

    function pass(uint32 seconds_) external {
        vm.warp(vm.getBlockTimestamp() + _bound(seconds_, 1, 20 minutes));
        ++done[this.pass.selector];
    }

    /// @dev Pause, tokens, members and the court in any mood: no exit may care.
    function tamper(uint8 what, bool flag) external {
        vm.startPrank(owner);
        if (what % 3 == 0) leases.setVersionActive(version, flag);
        if (what % 3 == 1) leases.setToken(address(usd), flag, false);
        if (what % 3 == 2) leases.addVersion(super._parameters());
        vm.stopPrank();
        ++done[this.tamper.selector];
    }

    // --- balances and stake -----------------------------------------------------------------------------------

    function move(uint256 who, uint96 amount, bool out) external {
        address account = _account(who);
        uint256 free = leases.balanceOf(address(usd), account);
        vm.startPrank(account);
        if (out) {
            amount = uint96(_bound(amount, 0, free));
            leases.withdraw(address(usd), account, account, amount, _direct());
        } else {
            amount = uint96(_bound(amount, 0, usd.balanceOf(account)));
            try leases.deposit(address(usd), account, amount, _direct()) {} catch {}
        }
        vm.stopPrank();
        ++done[this.move.selector];
    }

    /// @dev Anyone can send a coin, which is nobody's.
    function donate(uint96 amount) external {
        amount = uint96(_bound(amount, 0, 1e6));
        usd.mint(address(leases), amount);
        donated += amount;
        ++done[this.donate.selector];
    }

    function stake(uint256 which, uint96 amount) external {
        bytes32 id = devices[which % 3];
        amount = uint96(_bound(amount, 1, 1e9));
        vm.prank(registry.device(id).sponsor);
        try registry.stake(id, amount, _direct()) {
            ++done[this.stake.selector];
        } catch {}
    }

    function unbond(uint256 which, bool withdraw) external {
        bytes32 id = devices[which % 3];
        address backer = registry.device(id).sponsor;
        if (!withdraw) {
            vm.prank(backer);
            try registry.beginUnbond(id, backer, _direct()) {} catch {}
            return;
        }
        uint256 held = registry.device(id).stake;
        uint256 free = leases.balanceOf(address(twd), backer);
        try registry.withdrawStake(id) {
            vm.assertEq(leases.balanceOf(address(twd), backer) - free, held, "the whole stake returns");
            ++done[this.unbond.selector];
        } catch {}
    }

    function slash(uint256 which, uint96 amount, bool reported) external {
        bytes32 id = devices[which % 3];
        amount = uint96(_bound(amount, 0, 1e7));
        uint256[3] memory before;
        for (uint256 i; i < 3; ++i) {
            before[i] = registry.device(devices[i]).stake;
        }
        uint256 reporterFree = leases.balanceOf(address(twd), relayer);
        (uint256 sinkBefore,,,) = leases.pools(address(twd));
        vm.prank(arbiter);
        registry.slash(id, amount, reported ? relayer : address(0));
        (uint256 sinkAfter,,,) = leases.pools(address(twd));
        uint256 took = before[which % 3] - registry.device(id).stake;
        uint256 reward = leases.balanceOf(address(twd), relayer) - reporterFree;
        for (uint256 i; i < 3; ++i) {
            if (i != which % 3) {
                vm.assertEq(registry.device(devices[i]).stake, before[i], "15: one device's stake");
            }
        }
        vm.assertEq(took, before[which % 3] < amount ? before[which % 3] : amount, "16: it was slashable");
        vm.assertEq(took, reward + sinkAfter - sinkBefore, "17: slashed = reporter + sunk");
        vm.assertLe(reward * 10, took, "17: a tenth at most");
        ++done[this.slash.selector];
    }

    function jail(uint256 which, uint32 span) external {
        uint256[] memory before = _words();
        vm.prank(arbiter);
        registry.jail(devices[which % 3], uint40(vm.getBlockTimestamp() + span % 600));
        uint256[] memory later = _words();
        vm.assertEq(keccak256(abi.encode(before)), keccak256(abi.encode(later)), "19: no running lease");
        ++done[this.jail.selector];
    }

    function burn() external {
        uint256 supply = twd.totalSupply();
        (uint256 sink,,,) = leases.pools(address(twd));
        leases.burnSink(address(twd));
        vm.assertEq(supply, twd.totalSupply() + sink, "17: supply before = after + burned");
        ++done[this.burn.selector];
    }

    // --- ghosts -----------------------------------------------------------------------------------------------

    /// @dev Mostly one of the last few, which are more likely to live.
    function _pick(uint256 pick) private view returns (Ghost storage) {
        uint256 count = _ghosts.length;
        if (pick % 4 != 0 && count > 6) return _ghosts[count - 1 - (pick >> 2) % 6];
        return _ghosts[(pick >> 2) % count];
    }

    /// @dev One with a pending challenge, or with something for the court, where there is any.
    function _pickWaiting(uint256 pick, bool forCourt) private view returns (Ghost storage) {
        uint256 count = _ghosts.length;
        for (uint256 i; i < count; ++i) {
            Ghost storage it = _ghosts[addmod(pick, i, count)];
            if (it.closed) continue;
            LeaseView memory now_ = leases.lease(it.id);
            if (forCourt ? now_.disputed || now_.buyerFeeAside : now_.challenged) return it;
        }
        return _pick(pick);
    }

    function _keyOf(address account) private view returns (uint256) {
        if (account == buyers[0]) return _buyerKeys[0];
        if (account == buyers[1]) return _buyerKeys[1];
        return account == providers[0] ? _providerKeys[0] : _providerKeys[1];
    }

    function _account(uint256 who) private view returns (address) {
        return who % 4 < 2 ? buyers[who % 2] : providers[who % 2];
    }

    function _words() private view returns (uint256[] memory words) {
        words = new uint256[](_ghosts.length);
        for (uint256 i; i < words.length; ++i) {
            words[i] = leases.word(_ghosts[i].id);
        }
    }

    function _seePaid(Ghost storage it) private returns (uint96 paid) {
        paid = leases.lease(it.id).paid;
        vm.assertGe(paid, it.paid, "3: paid never shrinks");
        it.paid = paid;
    }

    /// @dev Keeps when a lease settled, and checks that its bond returned no sooner than due without a last voucher.
    function _see(Ghost storage it) private {
        LeaseView memory now_ = leases.lease(it.id);
        if (now_.state == State.Settled && it.settledAt == 0) {
            it.settledAt = uint40(vm.getBlockTimestamp());
            it.buyerGot = now_.compensated;
        }
        if (now_.state == State.Closed && !it.closed) {
            it.closed = true;
            _checkAccount(it);
            it.disputeBond = 0;
            if (it.settledAt == 0) {
                vm.assertTrue(it.lastSubmitted, "8: Closed at once only with a last voucher");
            } else {
                vm.assertGe(vm.getBlockTimestamp(), it.settledAt + 10 minutes, "8: not before its due time");
            }
        }
    }

    /// @dev The account that a closing lease gives of itself.
    function _checkAccount(Ghost storage it) private {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i; i < logs.length; ++i) {
            if (logs[i].topics[0] != ILeases.LeaseClosed.selector) continue;
            (
                uint96 paid,
                uint96 refunded,
                uint96 forfeited,
                uint96 fee,
                uint96 buyerFee,
                uint96 bondToBuyer
            ) = abi.decode(logs[i].data, (uint96, uint96, uint96, uint96, uint96, uint96));
            LeaseTerms storage terms = it.terms;
            vm.assertEq(paid, it.highest, "paid is the highest voucher");
            vm.assertEq(
                uint256(paid) + refunded + forfeited + buyerFee,
                terms.deposit,
                "4: the deposit is accounted for"
            );
            vm.assertEq(fee, uint256(paid) * 250 / 10_000, "6: the fee of what was finally paid");
            if (forfeited != 0) vm.assertFalse(it.settledOnce, "5: forfeited after a voucher");
            vm.assertLe(
                bondToBuyer, uint256(terms.compensationCap) + terms.providerBreakFee, "7: the bond's limit"
            );
            if (buyerFee != 0) vm.assertEq(terms.kind, 2, "a buyer's break fee on a reserved lease only");
            return;
        }
        vm.assertTrue(false, "a lease closed silently");
    }

    // --- everyone leaves --------------------------------------------------------------------------------------

    /// @notice Ends every lease by permissionless calls alone, with everything broken that exits must not need, and
    /// lets everyone withdraw.
    function leave() external {
        vm.startPrank(owner);
        leases.setVersionActive(version, false);
        leases.setToken(address(usd), false, false);
        leases.setToken(address(twd), false, true);
        vm.stopPrank();
        court.breakDown();
        for (uint256 i; i < _ghosts.length; ++i) {
            _leave(_ghosts[i]);
        }
        address[9] memory all = everyone();
        for (uint256 i; i < all.length; ++i) {
            _withdrawAll(address(usd), all[i]);
            _withdrawAll(address(twd), all[i]);
        }
    }

    function _leave(Ghost storage it) private {
        if (leases.lease(it.id).state == State.Closed) return;
        LeaseView memory now_ = leases.lease(it.id);
        uint256 free = leases.balanceOf(it.terms.token, it.terms.buyer);
        bool live = now_.state != State.Settled;
        if (live && now_.state != State.Closing) {
            vm.prank(it.terms.buyer);
            leases.requestClose(it.terms, _direct());
        }
        uint256 bound = uint256(leases.lease(it.id).dueAt);
        if (vm.getBlockTimestamp() < bound) vm.warp(bound);
        if (now_.challenged) {
            vm.warp(vm.getBlockTimestamp() + 1 minutes + 1);
            leases.defaulted(it.terms);
        } else if (live) {
            leases.finalize(it.terms);
        }
        vm.warp(vm.getBlockTimestamp() + 1 hours + 10 minutes);
        leases.releaseBond(it.terms);
        vm.assertEq(uint256(leases.lease(it.id).state), uint256(State.Closed), "12: every lease closes");
        if (live) {
            uint256 least = it.terms.deposit - now_.paid;
            if (now_.paid == 0 && !now_.challenged) least -= it.terms.prepay;
            vm.assertGe(
                leases.balanceOf(it.terms.token, it.terms.buyer) - free,
                least,
                "11: the buyer alone plus time reaches its refund"
            );
        }
    }

    function _withdrawAll(address token, address account) private {
        uint256 free = leases.balanceOf(token, account);
        vm.prank(account);
        leases.withdraw(token, account, account, free, _direct());
    }

    function everyone() public view returns (address[9] memory) {
        return [buyers[0], buyers[1], providers[0], providers[1], sponsor, relayer, buyer, provider, stranger];
    }
}
