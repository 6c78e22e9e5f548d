// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {ILeases, TermsFault} from "../interfaces/ILeases.sol";
import {DEFAULTED, LeaseWord} from "../types/LeaseWord.sol";
import {ColdParameters, HotParameters} from "../types/Parameters.sol";
import {BASIS_POINTS, LeaseTerms, ON_DEMAND, RATE_SCALE, RESERVED, SPOT} from "../types/Terms.sol";

/// @title The arithmetic of a lease
/// @notice Products of the rate divide by 1e18; differences saturate at zero. Every product fits: a rate has 128
/// bits, a span at most 42.
library Rules {
    /// @dev Everything that `open` demands of terms by themselves.
    function check(LeaseTerms calldata terms, bytes32 id, HotParameters memory hot) internal view {
        (bool sound, TermsFault fault) = _parties(terms);
        if (sound) (sound, fault) = _times(terms, hot);
        if (sound) (sound, fault) = _amounts(terms, hot);
        if (!sound) revert ILeases.InvalidTerms(id, fault);
    }

    /// @notice The most that a voucher may say when `moment` is what counts, in base units.
    function cap(LeaseTerms calldata terms, uint256 moment) internal pure returns (uint256) {
        uint256 elapsed = Math.saturatingSub(Math.min(moment, terms.schedule.end), terms.schedule.start);
        uint256 earned = _worth(terms, elapsed + terms.schedule.slack) + 1;
        return Math.min(terms.deposit - terms.buyerBreakFee, earned);
    }

    /// @notice What must be paid at `time`, less `slack` seconds of the rate, rounded down. The clock starts after
    /// `prepare` and stops at the end.
    function due(LeaseTerms calldata terms, uint256 time, uint256 slack) internal pure returns (uint256) {
        uint256 from = uint256(terms.schedule.start) + terms.schedule.prepare + slack;
        return _worth(terms, Math.saturatingSub(Math.min(time, terms.schedule.end), from));
    }

    /// @notice The fee on a cumulative amount, rounded down.
    function fee(uint96 paid, uint16 feeBps) internal pure returns (uint96) {
        return uint96(uint256(paid) * feeBps / BASIS_POINTS);
    }

    /// @notice The prepayment, where no voucher ever settled and the provider did not default.
    function forfeited(LeaseTerms calldata terms, LeaseWord current) internal pure returns (uint96) {
        return current.paid() == 0 && !current.has(DEFAULTED) ? terms.prepay : 0;
    }

    /// @notice A challenge's bond, rounded up.
    function challengeBond(LeaseTerms calldata terms, uint256 span) internal pure returns (uint256) {
        return Math.min(Math.ceilDiv(uint256(terms.rate) * span, RATE_SCALE), type(uint96).max);
    }

    /// @notice A dispute's bond, rounded up.
    function disputeBond(uint96 claim, uint16 disputeBps) internal pure returns (uint256) {
        return Math.ceilDiv(uint256(claim) * disputeBps, BASIS_POINTS);
    }

    /// @notice What a defaulted lease's bond pays the buyer, rounded down.
    /// @param challengedAt When the unanswered challenge was made.
    /// @param repeated The pair had another default not long ago.
    function compensation(
        LeaseTerms calldata terms,
        LeaseWord current,
        uint96 checkpointPaid,
        uint256 challengedAt,
        bool repeated,
        ColdParameters memory cold
    ) internal pure returns (uint256 amount) {
        uint256 began = Math.max(terms.schedule.start, current.openedAt());
        if (challengedAt < began + cold.refundWindow) {
            amount = current.paid();
        } else {
            uint256 lost = Math.saturatingSub(current.paid(), checkpointPaid);
            amount = Math.min(lost, _worth(terms, cold.compensationSpan));
            if (!repeated) amount += _worth(terms, cold.bonusSpan);
        }
        return Math.min(amount, terms.compensationCap);
    }

    function _worth(LeaseTerms calldata terms, uint256 span) private pure returns (uint256) {
        return uint256(terms.rate) * span / RATE_SCALE;
    }

    function _parties(LeaseTerms calldata terms) private pure returns (bool, TermsFault) {
        if (terms.buyer == terms.provider || terms.meter == address(0)) return (false, TermsFault.Parties);
        if (terms.kind > RESERVED) return (false, TermsFault.Kind);
        bool listed = terms.device != 0;
        if (listed != (terms.units != 0) || (!listed && !terms.unstaked)) return (false, TermsFault.Device);
        return (true, TermsFault.Parties);
    }

    function _times(LeaseTerms calldata terms, HotParameters memory hot)
        private
        view
        returns (bool, TermsFault)
    {
        (uint256 start, uint256 end) = (terms.schedule.start, terms.schedule.end);
        uint256 openBy = terms.schedule.openBy;
        if (block.timestamp > openBy || openBy > block.timestamp + hot.openAhead) {
            return (false, TermsFault.OpenBy);
        }
        if (start + hot.openAhead < block.timestamp || start > block.timestamp + hot.startAhead) {
            return (false, TermsFault.Start);
        }
        if (end <= start || end <= block.timestamp || end - start > hot.maxDuration) {
            return (false, TermsFault.End);
        }
        return (true, TermsFault.Parties);
    }

    function _amounts(LeaseTerms calldata terms, HotParameters memory hot)
        private
        pure
        returns (bool, TermsFault)
    {
        uint256 prepay = terms.prepay;
        if (prepay > terms.deposit || prepay > _worth(terms, terms.schedule.slack)) {
            return (false, TermsFault.Prepay);
        }
        if (terms.deposit < prepay + terms.buyerBreakFee) return (false, TermsFault.Deposit);
        if (terms.bond < uint256(terms.compensationCap) + terms.providerBreakFee) {
            return (false, TermsFault.Bond);
        }
        if (terms.compensationCap < _worth(terms, _minimumSpan(terms.kind, hot))) {
            return (false, TermsFault.CompensationCap);
        }
        if (terms.buyerBreakFee != 0 && terms.kind != RESERVED) return (false, TermsFault.BuyerBreakFee);
        return (true, TermsFault.Parties);
    }

    function _minimumSpan(uint8 kind, HotParameters memory hot) private pure returns (uint256) {
        if (kind == ON_DEMAND) return hot.minCapOnDemand;
        return kind == SPOT ? hot.minCapSpot : hot.minCapReserved;
    }
}
