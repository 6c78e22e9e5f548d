// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {CheckpointRecord, LeaseTerms, Schedule, Voucher} from "../../src/types/Terms.sol";
import {Base, ITradewind, ITradewindRegistry} from "../Base.sol";
import {Json} from "./Json.sol";

/// @title The EIP-712 vectors that the Rust crates and these contracts share
/// @notice Fixed keys, addresses and fields. Every number is a decimal string, every byte string is hex.
/// Ids and digests of terms, vouchers and checkpoints are the contract's own answers.
abstract contract Golden is Base {
    using Json for string;

    string internal constant PATH = "test/golden/eip712.json";
    address private constant DEPLOYER = address(0x7ADE);
    address private constant TOKEN = address(0xEEEE);
    uint40 private constant DEADLINE = 1_800_000_060;
    uint256 private constant NONCE = 7;

    string private constant SCHEDULE_TYPE =
        "Schedule(uint40 start,uint40 end,uint40 openBy,uint32 prepare,uint32 notice,uint32 slack)";
    string private constant VOUCHER_TYPE =
        "Voucher(bytes32 lease,uint96 cumulative,uint40 notBefore,bool last)";
    string private constant CHECKPOINT_TYPE =
        "CheckpointRecord(bytes32 lease,uint96 paidAt,bytes32 root,uint40 at)";
    string private constant TERMS_TYPE =
        "LeaseTerms(address buyer,address provider,bytes32 device,uint64 units,bool unstaked,address meter,bool meterMaySignLast,address token,uint128 rate,uint96 deposit,uint96 prepay,uint96 bond,uint96 compensationCap,uint96 providerBreakFee,uint96 buyerBreakFee,uint8 kind,Schedule schedule,uint16 uptimePromise,uint32 version,bytes32 jobDigest,bytes32 tosHash,bytes32 parent)Schedule(uint40 start,uint40 end,uint40 openBy,uint32 prepare,uint32 notice,uint32 slack)";

    /// @dev Deploys at addresses that depend on nothing but the deployer's.
    function setUp() public virtual override {
        vm.warp(START);
        vm.chainId(31_337);
        vm.setNonce(DEPLOYER, 1);
        vm.startPrank(DEPLOYER);
        address remedies = _create(vm.getCode("Remedies.sol:Remedies"));
        bytes memory args = abi.encode(owner, TOKEN, TOKEN, arbiter, _registryConfig(), remedies);
        leases = ITradewind(_create(bytes.concat(vm.getCode("Leases.sol:Leases"), args)));
        vm.stopPrank();
        registry = ITradewindRegistry(leases.registry());
    }

    function _document() internal view returns (string memory) {
        string memory json = '{\n  "chainId": "31337",\n  "domains": ';
        json = string.concat(json, _domains(), ',\n  "keys": ', _keys(), ',\n  "types": ', _types());
        json = string.concat(json, ',\n  "devices": ', _devices(), ',\n  "terms": ', _termsList());
        json = string.concat(json, ',\n  "vouchers": ', _vouchers(), ',\n  "checkpoints": ', _checkpoints());
        return string.concat(json, ',\n  "actions": ', _actions(), "\n}\n");
    }

    function _domains() private view returns (string memory) {
        string memory all = string("")
            .item(
                string("").field("contract", "Leases").field("name", "Tradewind").field("version", "1")
                    .field("verifyingContract", vm.toString(address(leases)))
                    .field("separator", vm.toString(leases.DOMAIN_SEPARATOR()))
            );
        return all.item(
                string("").field("contract", "Registry").field("name", "Tradewind Registry")
                    .field("version", "1").field("verifyingContract", vm.toString(address(registry)))
                    .field("separator", vm.toString(registry.DOMAIN_SEPARATOR()))
            ).brackets();
    }

    function _keys() private pure returns (string memory all) {
        all = all.item(_key("buyer", BUYER_KEY)).item(_key("provider", PROVIDER_KEY));
        all = all.item(_key("meter", METER_KEY)).item(_key("device", DEVICE_KEY));
        return all.brackets();
    }

    function _key(string memory name, uint256 key) private pure returns (string memory) {
        return string("").field("name", name).field("privateKey", vm.toString(bytes32(key)))
            .field("address", vm.toString(vm.addr(key)));
    }

    function _types() private pure returns (string memory all) {
        all = all.item(_type(TERMS_TYPE)).item(_type(SCHEDULE_TYPE)).item(_type(VOUCHER_TYPE));
        return all.item(_type(CHECKPOINT_TYPE)).brackets();
    }

    function _type(string memory text) private pure returns (string memory) {
        return string("").field("type", text).field("hash", vm.toString(keccak256(bytes(text))));
    }

    function _devices() private view returns (string memory all) {
        all = all.item(_device(provider, deviceKey)).item(_device(buyer, deviceKey));
        return all.item(_device(address(type(uint160).max), address(1))).brackets();
    }

    function _device(address owner_, address key) private view returns (string memory) {
        return string("").field("provider", vm.toString(owner_)).field("key", vm.toString(key))
            .field("id", vm.toString(registry.deviceId(owner_, key)));
    }

    // --- terms ------------------------------------------------------------------------------------------------

    function _typical() private view returns (LeaseTerms memory terms) {
        terms = _terms();
        terms.device = registry.deviceId(provider, deviceKey);
        terms.token = TOKEN;
        terms.version = 1;
        terms.uptimePromise = 9_990;
        terms.meterMaySignLast = true;
    }

    function _reservedExtension() private view returns (LeaseTerms memory terms) {
        terms = _typical();
        terms.kind = 2;
        terms.units = 0xf0;
        terms.buyerBreakFee = 500_000;
        terms.schedule.prepare = 120;
        terms.parent = leases.leaseId(_typical());
    }

    function _empty() private view returns (LeaseTerms memory terms) {
        terms.buyer = buyer;
        terms.provider = provider;
        terms.unstaked = true;
    }

    function _largest() private view returns (LeaseTerms memory) {
        bytes32 ones = bytes32(type(uint256).max);
        uint96 most = type(uint96).max;
        Schedule memory schedule = Schedule({
            start: type(uint40).max,
            end: type(uint40).max,
            openBy: type(uint40).max,
            prepare: type(uint32).max,
            notice: type(uint32).max,
            slack: type(uint32).max
        });
        return LeaseTerms({
            buyer: buyer,
            provider: provider,
            device: ones,
            units: type(uint64).max,
            unstaked: true,
            meter: address(type(uint160).max),
            meterMaySignLast: true,
            token: address(type(uint160).max),
            rate: type(uint128).max,
            deposit: most,
            prepay: most,
            bond: most,
            compensationCap: most,
            providerBreakFee: most,
            buyerBreakFee: most,
            kind: type(uint8).max,
            schedule: schedule,
            uptimePromise: type(uint16).max,
            version: type(uint32).max,
            jobDigest: ones,
            tosHash: ones,
            parent: ones
        });
    }

    function _termsList() private view returns (string memory all) {
        all = all.item(_termsItem("typical", _typical())).item(_termsItem("empty", _empty()));
        all = all.item(_termsItem("largest", _largest()));
        return all.item(_termsItem("extension", _reservedExtension())).brackets();
    }

    function _termsItem(string memory name, LeaseTerms memory terms)
        private
        view
        returns (string memory json)
    {
        bytes32 id = leases.leaseId(terms);
        json = json.field("name", name);
        json = json.raw("message", _termsFields(terms).braces());
        json = json.field("digest", vm.toString(id));
        json = json.field("buyerSignature", vm.toString(_sign(BUYER_KEY, id)));
        json = json.field("providerSignature", vm.toString(_sign(PROVIDER_KEY, id)));
    }

    function _termsFields(LeaseTerms memory t) private pure returns (string memory json) {
        json = json.field("buyer", vm.toString(t.buyer));
        json = json.field("provider", vm.toString(t.provider));
        json = json.field("device", vm.toString(t.device));
        json = json.field("units", vm.toString(uint256(t.units)));
        json = json.raw("unstaked", vm.toString(t.unstaked)).field("meter", vm.toString(t.meter));
        json = json.raw("meterMaySignLast", vm.toString(t.meterMaySignLast));
        json = json.field("token", vm.toString(t.token));
        json = json.field("rate", vm.toString(uint256(t.rate)));
        json = json.field("deposit", vm.toString(uint256(t.deposit)));
        json = json.field("prepay", vm.toString(uint256(t.prepay)));
        json = json.field("bond", vm.toString(uint256(t.bond)));
        json = json.field("compensationCap", vm.toString(uint256(t.compensationCap)));
        json = json.field("providerBreakFee", vm.toString(uint256(t.providerBreakFee)));
        json = json.field("buyerBreakFee", vm.toString(uint256(t.buyerBreakFee)));
        json = json.field("kind", vm.toString(uint256(t.kind)));
        json = json.raw("schedule", _scheduleFields(t.schedule).braces());
        json = json.field("uptimePromise", vm.toString(uint256(t.uptimePromise)));
        json = json.field("version", vm.toString(uint256(t.version)));
        json = json.field("jobDigest", vm.toString(t.jobDigest));
        json = json.field("tosHash", vm.toString(t.tosHash));
        return json.field("parent", vm.toString(t.parent));
    }

    function _scheduleFields(Schedule memory s) private pure returns (string memory json) {
        json = json.field("start", vm.toString(uint256(s.start)));
        json = json.field("end", vm.toString(uint256(s.end)));
        json = json.field("openBy", vm.toString(uint256(s.openBy)));
        json = json.field("prepare", vm.toString(uint256(s.prepare)));
        json = json.field("notice", vm.toString(uint256(s.notice)));
        return json.field("slack", vm.toString(uint256(s.slack)));
    }

    // --- vouchers and checkpoints -----------------------------------------------------------------------------

    function _vouchers() private view returns (string memory all) {
        bytes32 id = leases.leaseId(_typical());
        all = all.item(_voucherItem(METER_KEY, Voucher(id, 60_000, 0, false)));
        all = all.item(_voucherItem(METER_KEY, Voucher(id, 120_000, 1_800_000_600, false)));
        all = all.item(_voucherItem(BUYER_KEY, Voucher(id, 3_600_000, 0, true)));
        Voucher memory largest = Voucher(bytes32(type(uint256).max), type(uint96).max, type(uint40).max, true);
        return all.item(_voucherItem(METER_KEY, largest)).brackets();
    }

    function _voucherItem(uint256 key, Voucher memory v) private view returns (string memory json) {
        string memory message;
        message = message.field("lease", vm.toString(v.lease));
        message = message.field("cumulative", vm.toString(uint256(v.cumulative)));
        message = message.field("notBefore", vm.toString(uint256(v.notBefore)));
        message = message.raw("last", vm.toString(v.last));
        json = json.raw("message", message.braces());
        json = json.field("structHash", vm.toString(_voucherHash(v)));
        json = json.field("digest", vm.toString(leases.voucherDigest(v)));
        json = json.field("signer", vm.toString(vm.addr(key)));
        json = json.field("signature", vm.toString(_signVoucher(key, v)));
    }

    function _checkpoints() private view returns (string memory all) {
        bytes32 id = leases.leaseId(_typical());
        all = all.item(_checkpointItem(CheckpointRecord(id, 60_000, keccak256("root"), 1_800_000_100)));
        CheckpointRecord memory largest = CheckpointRecord(
            bytes32(type(uint256).max), type(uint96).max, bytes32(type(uint256).max), type(uint40).max
        );
        return all.item(_checkpointItem(largest)).brackets();
    }

    function _checkpointItem(CheckpointRecord memory r) private view returns (string memory json) {
        string memory message;
        message = message.field("lease", vm.toString(r.lease));
        message = message.field("paidAt", vm.toString(uint256(r.paidAt)));
        message = message.field("root", vm.toString(r.root));
        message = message.field("at", vm.toString(uint256(r.at)));
        bytes32 digest = leases.checkpointDigest(r);
        json = json.raw("message", message.braces());
        json = json.field("digest", vm.toString(digest));
        json = json.field("providerSignature", vm.toString(_sign(PROVIDER_KEY, digest)));
        json = json.field("meterSignature", vm.toString(_sign(METER_KEY, digest)));
    }

    // --- actions ----------------------------------------------------------------------------------------------

    function _actions() private view returns (string memory) {
        return string.concat(_moneyActions(), _leaseActions(), _registryActions()).brackets();
    }

    function _moneyActions() private view returns (string memory all) {
        all = all.item(
            _action(
                "Deposit(address token,address account,uint256 amount,uint256 nonce,uint40 deadline)",
                abi.encode(TOKEN, buyer, 1_000_000, NONCE, DEADLINE),
                BUYER_KEY
            )
        );
        all = all.item(
            _action(
                "Withdraw(address token,address account,address to,uint256 amount,uint256 nonce,uint40 deadline)",
                abi.encode(TOKEN, buyer, relayer, 1_000_000, NONCE, DEADLINE),
                BUYER_KEY
            )
        );
        return all.item(
            _action(
                "FeeAuthorization(address payer,address relayer,address token,uint96 amount,bytes32 calls,uint256 nonce,uint40 deadline)",
                abi.encode(buyer, relayer, TOKEN, 1_000, keccak256("calls"), NONCE, DEADLINE),
                BUYER_KEY
            )
        );
    }

    function _leaseActions() private view returns (string memory all) {
        bytes32 id = leases.leaseId(_typical());
        bytes32 voucher = _voucherHash(Voucher(id, 3_600_000, 0, true));
        all = _next(
            all,
            "Notice(bytes32 lease,uint8 reason,uint40 previous,uint40 deadline)",
            abi.encode(id, 1, 1_800_000_000, DEADLINE),
            PROVIDER_KEY
        );
        all = _next(
            all,
            "Close(bytes32 lease,bytes32 voucher,uint40 deadline)",
            abi.encode(id, voucher, DEADLINE),
            PROVIDER_KEY
        );
        all = _next(all, "RequestClose(bytes32 lease,uint40 deadline)", abi.encode(id, DEADLINE), BUYER_KEY);
        all = _next(
            all,
            "Challenge(bytes32 lease,uint32 sequence,uint40 deadline)",
            abi.encode(id, 3, DEADLINE),
            BUYER_KEY
        );
        all = _next(
            all,
            "Answer(bytes32 lease,uint40 challengedAt,uint40 deadline)",
            abi.encode(id, 1_800_000_000, DEADLINE),
            PROVIDER_KEY
        );
        all = _next(
            all,
            "Dispute(bytes32 lease,uint96 claim,bytes32 evidence,uint40 deadline)",
            abi.encode(id, 50_000, keccak256("evidence"), DEADLINE),
            BUYER_KEY
        );
    }

    function _registryActions() private view returns (string memory all) {
        bytes32 id = registry.deviceId(provider, deviceKey);
        bytes32 mesh = keccak256("mesh key");
        all = _nextRegistry(
            all,
            "Register(address account,bytes32 meshKey,bytes32 metadata,uint256 nonce,uint40 deadline)",
            abi.encode(provider, mesh, keccak256("metadata"), NONCE, DEADLINE)
        );
        all = _nextRegistry(
            all,
            "UpdateAccount(address account,bytes32 meshKey,bytes32 metadata,uint256 nonce,uint40 deadline)",
            abi.encode(provider, mesh, bytes32(0), NONCE, DEADLINE)
        );
        all = _nextRegistry(
            all,
            "AddDevice(address provider,address key,address sponsor,uint16 class,uint8 units,uint256 nonce,uint40 deadline)",
            abi.encode(provider, deviceKey, provider, 1, 8, NONCE, DEADLINE)
        );
        all = _nextRegistry(
            all,
            "SetSponsor(bytes32 device,address sponsor,uint256 nonce,uint40 deadline)",
            abi.encode(id, relayer, NONCE, DEADLINE)
        );
        all = _nextRegistry(
            all,
            "Stake(bytes32 device,uint96 amount,uint256 nonce,uint40 deadline)",
            abi.encode(id, 4_000_000, NONCE, DEADLINE)
        );
        all = _nextRegistry(
            all,
            "PayRent(bytes32 device,address payer,uint32 span,uint256 limit,uint256 nonce,uint40 deadline)",
            abi.encode(id, provider, 30 days, 5_000_000, NONCE, DEADLINE)
        );
        all = _nextRegistry(
            all,
            "BeginUnbond(bytes32 device,address account,uint256 nonce,uint40 deadline)",
            abi.encode(id, provider, NONCE, DEADLINE)
        );
    }

    function _next(string memory all, string memory text, bytes memory fields, uint256 key)
        private
        view
        returns (string memory)
    {
        return string.concat(all, ",\n    ", _action(text, fields, key).braces());
    }

    function _nextRegistry(string memory all, string memory text, bytes memory fields)
        private
        view
        returns (string memory)
    {
        string memory action = _actionIn("Registry", registry.DOMAIN_SEPARATOR(), text, fields, PROVIDER_KEY);
        return string.concat(all, ",\n    ", action.braces());
    }

    function _action(string memory text, bytes memory fields, uint256 key)
        private
        view
        returns (string memory)
    {
        return _actionIn("Leases", leases.DOMAIN_SEPARATOR(), text, fields, key);
    }

    /// @dev `encoded` is the ABI encoding of the message's fields in order: a vector needs no other form of them.
    function _actionIn(
        string memory where,
        bytes32 domain,
        string memory text,
        bytes memory fields,
        uint256 key
    ) private pure returns (string memory json) {
        bytes32 typeHash = keccak256(bytes(text));
        bytes32 digest = _digest(domain, bytes.concat(typeHash, fields));
        json = json.field("contract", where);
        json = json.field("type", text);
        json = json.field("typeHash", vm.toString(typeHash));
        json = json.field("encoded", vm.toString(fields));
        json = json.field("digest", vm.toString(digest));
        json = json.field("signer", vm.toString(vm.addr(key)));
        json = json.field("signature", vm.toString(_sign(key, digest)));
    }
}
