// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC3009} from "@openzeppelin/contracts/interfaces/draft-IERC3009.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {ERC20Burnable} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Burnable.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {Ledger} from "./Ledger.sol";
import {Relay} from "./Relay.sol";
import {IRegistry} from "./interfaces/IRegistry.sol";
import {IVault} from "./interfaces/IVault.sol";
import {Actions} from "./libraries/Actions.sol";
import {Auth, FeeAuthorization} from "./types/Authorization.sol";

/// @notice The form of ERC-3009 by which contract wallets sign.
interface IERC3009Bytes {
    function receiveWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external;
}

/// @title Balances inside the contract
/// @dev Only deposits, withdrawals and burns call a token, all behind one guard; everything else moves numbers.
/// The contract may hold more than it accounts for, since anyone can send a coin; never less.
abstract contract Vault is IVault, Ledger, Relay, Ownable2Step, ReentrancyGuardTransient {
    using SafeCast for uint256;
    using SafeERC20 for IERC20;

    /// @dev Of a token, what devices have at stake and what slashes took of it since the sink was emptied: one word, so
    /// that a slash writes one.
    struct Stakes {
        uint128 held;
        uint128 sunk;
    }

    mapping(address token => Stakes) private _stakes;

    /// @inheritdoc IVault
    function staked(address token) external view returns (uint256) {
        return _stakes[token].held;
    }

    /// @dev The allow-list changed.
    function _tokenSet(address token) internal virtual;

    /// @dev The one contract that moves stake and rent.
    function _custodian() internal view virtual returns (address);

    modifier onlyCustodian() {
        if (msg.sender != _custodian()) revert NotAllowed(msg.sender);
        _;
    }

    /// @inheritdoc IVault
    function balanceOf(address token, address account) public view returns (uint256) {
        return _balances[token][account].value;
    }

    /// @inheritdoc IVault
    function pools(address token)
        external
        view
        returns (uint256 sink, uint256 watchers, bool allowed, bool burnable)
    {
        Pool storage pool = _pools[token];
        return (uint256(pool.sink) + _stakes[token].sunk, pool.watchers, pool.allowed, pool.burnable);
    }

    /// @inheritdoc IVault
    function deposit(address token, address account, uint256 amount, Auth calldata auth)
        external
        nonReentrant
        returns (uint256)
    {
        return _deposit(token, account, amount, auth);
    }

    /// @inheritdoc IVault
    function depositWithPermit(
        address token,
        address account,
        uint256 amount,
        uint256 permitDeadline,
        bytes calldata permitSignature,
        Auth calldata auth
    ) external nonReentrant returns (uint256) {
        (bytes32 r, bytes32 s, uint8 v) = _split(permitSignature);
        try IERC20Permit(token).permit(account, address(this), amount, permitDeadline, v, r, s) {} catch {}
        return _deposit(token, account, amount, auth);
    }

    /// @inheritdoc IVault
    function depositWithAuthorization(
        address token,
        address from,
        uint256 amount,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external nonReentrant returns (uint256) {
        _requireAllowed(token);
        if (IERC3009(token).authorizationState(from, nonce)) return 0;
        uint256 before = IERC20(token).balanceOf(address(this));
        if (signature.length == 65) {
            (bytes32 r, bytes32 s, uint8 v) = _split(signature);
            IERC3009(token)
                .receiveWithAuthorization(
                    from, address(this), amount, validAfter, validBefore, nonce, v, r, s
                );
        } else {
            IERC3009Bytes(token)
                .receiveWithAuthorization(
                    from, address(this), amount, validAfter, validBefore, nonce, signature
                );
        }
        return _creditArrival(token, from, before);
    }

    /// @inheritdoc IVault
    function withdraw(address token, address account, address to, uint256 amount, Auth calldata auth)
        external
        nonReentrant
    {
        bytes32 structHash = keccak256(
            abi.encode(Actions.WITHDRAW_TYPEHASH, token, account, to, amount, auth.nonce, auth.deadline)
        );
        _authorizeOnce(account, structHash, auth);
        if (to == address(0) || to == address(this)) revert InvalidReceiver(to);
        _debit(token, account, amount);
        emit Withdrawn(token, account, to, amount);
        IERC20(token).safeTransfer(to, amount);
    }

    /// @inheritdoc IVault
    function payFee(FeeAuthorization calldata fee, bytes calldata signature) external {
        if (fee.calls != 0 && msg.sender != _custodian() && msg.sender != IRegistry(_custodian()).arbiter()) {
            revert FeeBoundToCalls(fee.calls, 0);
        }
        _payRelayer(fee, signature);
    }

    /// @inheritdoc IVault
    function burnSink(address token) external nonReentrant {
        Pool storage pool = _pools[token];
        if (!pool.burnable) revert TokenNotBurnable(token);
        uint256 amount = uint256(pool.sink) + _stakes[token].sunk;
        pool.sink = 0;
        _stakes[token].sunk = 0;
        emit SinkBurned(token, amount);
        ERC20Burnable(token).burn(amount);
    }

    /// @inheritdoc IVault
    function setToken(address token, bool allowed, bool burnable) external onlyOwner {
        _pools[token].allowed = allowed;
        _pools[token].burnable = burnable;
        emit TokenSet(token, allowed, burnable);
        _tokenSet(token);
    }

    /// @inheritdoc IVault
    function takeStake(address token, address from, uint256 amount) external onlyCustodian {
        _debit(token, from, amount);
        _stakes[token].held += amount.toUint128();
        emit Staked(token, from, amount);
    }

    /// @inheritdoc IVault
    function returnStake(address token, address to, uint256 amount) external onlyCustodian {
        _stakes[token].held -= amount.toUint128();
        _credit(token, to, amount);
        emit Unstaked(token, to, amount);
    }

    /// @inheritdoc IVault
    function sinkStake(address token, uint256 amount) external onlyCustodian {
        uint128 moved = amount.toUint128();
        Stakes memory stakes = _stakes[token];
        stakes.held -= moved;
        stakes.sunk += moved;
        _stakes[token] = stakes;
        emit StakeSunk(token, amount);
    }

    /// @inheritdoc IVault
    function takeRent(address token, address from, uint256 amount) external onlyCustodian {
        _debit(token, from, amount);
        _sink(token, amount);
        emit RentPaid(token, from, amount);
    }

    function _deposit(address token, address account, uint256 amount, Auth calldata auth)
        private
        returns (uint256)
    {
        bytes32 structHash = keccak256(
            abi.encode(Actions.DEPOSIT_TYPEHASH, token, account, amount, auth.nonce, auth.deadline)
        );
        _authorizeOnce(account, structHash, auth);
        _requireAllowed(token);
        uint256 before = IERC20(token).balanceOf(address(this));
        IERC20(token).safeTransferFrom(account, address(this), amount);
        return _creditArrival(token, account, before);
    }

    function _creditArrival(address token, address account, uint256 before)
        private
        returns (uint256 credited)
    {
        credited = IERC20(token).balanceOf(address(this)) - before;
        _credit(token, account, credited);
        emit Deposited(token, account, credited);
    }

    function _payRelayer(FeeAuthorization calldata fee, bytes calldata signature) internal override {
        if (block.timestamp > fee.deadline) revert DeadlinePassed(fee.deadline, block.timestamp);
        _checkSigner(fee.payer, _digest(Actions.hash(fee)), signature);
        _spend(fee.payer, fee.nonce);
        _debit(fee.token, fee.payer, fee.amount);
        _credit(fee.token, fee.relayer, fee.amount);
        emit FeePaid(fee.payer, fee.relayer, fee.token, fee.amount);
    }

    function _split(bytes calldata signature) private pure returns (bytes32 r, bytes32 s, uint8 v) {
        if (signature.length == 65) {
            (r, s, v) = (bytes32(signature[0:32]), bytes32(signature[32:64]), uint8(signature[64]));
        }
    }
}
