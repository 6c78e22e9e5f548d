// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {ILeases, TermsFault} from "../interfaces/ILeases.sol";
import {DEFAULTED, LeaseWord} from "../types/LeaseWord.sol";
import {ColdParameters, HotWord} from "../types/Parameters.sol";
import {BASIS_POINTS, LeaseTerms, RATE_SCALE, RESERVED} from "../types/Terms.sol";
import {Clean} from "./Clean.sol";

/// @title The arithmetic of a lease
/// @notice Products of the rate divide by 1e18; differences saturate at zero.
/// @dev Unchecked where nothing can overflow: a rate has 128 bits, an instant or amount at most 96, a sum of spans 43.
library Rules {
    /// @dev Everything that `open` demands of clean terms by themselves.
    function check(LeaseTerms calldata terms, bytes32 id, HotWord hot) internal view {
        unchecked {
            if (Clean.buyer(terms) == Clean.provider(terms) || Clean.meter(terms) == address(0)) {
                _fail(id, TermsFault.Parties);
            }
            uint256 kind = Clean.kind(terms);
            if (kind > RESERVED) _fail(id, TermsFault.Kind);
            bool listed = terms.device != 0;
            if (listed != (Clean.units(terms) != 0) || (!listed && !Clean.unstaked(terms))) {
                _fail(id, TermsFault.Device);
            }
            _checkTimes(terms, id, hot);

            (uint256 deposit, uint256 prepay, uint256 rate) =
                (Clean.deposit(terms), Clean.prepay(terms), Clean.rate(terms));
            uint256 buyerBreakFee = Clean.buyerBreakFee(terms);
            uint256 compensationCap = Clean.compensationCap(terms);
            if (prepay > deposit || prepay > rate * Clean.slack(terms) / RATE_SCALE) {
                _fail(id, TermsFault.Prepay);
            }
            if (deposit < prepay + buyerBreakFee) _fail(id, TermsFault.Deposit);
            if (Clean.bond(terms) < compensationCap + Clean.providerBreakFee(terms)) {
                _fail(id, TermsFault.Bond);
            }
            if (compensationCap < rate * hot.minCap(kind) / RATE_SCALE) {
                _fail(id, TermsFault.CompensationCap);
            }
            if (buyerBreakFee != 0 && kind != RESERVED) _fail(id, TermsFault.BuyerBreakFee);
        }
    }

    /// @notice The most that a voucher may say when `moment` is what counts, in base units.
    function cap(LeaseTerms calldata terms, uint256 moment) internal pure returns (uint256) {
        unchecked {
            uint256 start = Clean.start(terms);
            uint256 end = Clean.end(terms);
            if (moment > end) moment = end;
            uint256 span = Clean.slack(terms);
            if (moment > start) span += moment - start;
            uint256 earned = worth(terms, span) + 1;
            uint256 most = uint256(Clean.deposit(terms)) - Clean.buyerBreakFee(terms);
            return earned < most ? earned : most;
        }
    }

    /// @notice What must be paid at `time`, less `slack` seconds of the rate, rounded down. The clock starts after
    /// `prepare` and stops at the end.
    function due(LeaseTerms calldata terms, uint256 time, uint256 slack) internal pure returns (uint256) {
        uint256 from = uint256(Clean.start(terms)) + Clean.prepare(terms) + slack;
        return worth(terms, Math.saturatingSub(Math.min(time, Clean.end(terms)), from));
    }

    /// @notice The fee on a cumulative amount, rounded down.
    function fee(uint256 paid, uint256 feeBps) internal pure returns (uint256) {
        unchecked {
            return paid * feeBps / BASIS_POINTS;
        }
    }

    /// @notice The prepayment, where no voucher ever settled and the provider did not default.
    function forfeited(LeaseTerms calldata terms, LeaseWord current) internal pure returns (uint96) {
        return current.paid() == 0 && !current.has(DEFAULTED) ? Clean.prepay(terms) : 0;
    }

    /// @notice A challenge's bond, rounded up.
    function challengeBond(LeaseTerms calldata terms, uint256 span) internal pure returns (uint256) {
        return Math.min(Math.ceilDiv(uint256(Clean.rate(terms)) * span, RATE_SCALE), type(uint96).max);
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
        uint256 began = Math.max(Clean.start(terms), current.openedAt());
        if (challengedAt < began + cold.refundWindow) {
            amount = current.paid();
        } else {
            uint256 lost = Math.saturatingSub(current.paid(), checkpointPaid);
            amount = Math.min(lost, worth(terms, cold.compensationSpan));
            if (!repeated) amount += worth(terms, cold.bonusSpan);
        }
        return Math.min(amount, Clean.compensationCap(terms));
    }

    /// @notice What `span` seconds of the rate are worth, rounded down.
    function worth(LeaseTerms calldata terms, uint256 span) internal pure returns (uint256) {
        unchecked {
            return uint256(Clean.rate(terms)) * span / RATE_SCALE;
        }
    }

    function _checkTimes(LeaseTerms calldata terms, bytes32 id, HotWord hot) private view {
        unchecked {
            (uint256 start, uint256 end) = (Clean.start(terms), Clean.end(terms));
            uint256 openBy = Clean.openBy(terms);
            uint256 ahead = hot.openAhead();
            if (block.timestamp > openBy || openBy > block.timestamp + ahead) _fail(id, TermsFault.OpenBy);
            if (start + ahead < block.timestamp || start > block.timestamp + hot.startAhead()) {
                _fail(id, TermsFault.Start);
            }
            if (end <= start || end <= block.timestamp || end - start > hot.maxDuration()) {
                _fail(id, TermsFault.End);
            }
        }
    }

    /// @dev No field has a bit above its type: from here on reads are bare.
    function requireClean(LeaseTerms calldata terms, bytes32 id) internal pure {
        if (!Clean.check(terms)) _fail(id, TermsFault.Encoding);
    }

    function _fail(bytes32 id, TermsFault fault) private pure {
        revert ILeases.InvalidTerms(id, fault);
    }
}
