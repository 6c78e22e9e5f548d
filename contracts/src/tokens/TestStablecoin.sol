// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";
import {ERC3009} from "@openzeppelin/contracts/token/ERC20/extensions/draft-ERC3009.sol";

/// @title Test dollars (tUSD, 6 decimals) for development networks
/// @notice Stands in for a stablecoin such as USDC: ERC-2612 permits and ERC-3009 authorizations, so that a
/// holder pays without the chain's gas token. Worth nothing: a minter makes it from air.
contract TestStablecoin is ERC20, ERC20Permit, ERC3009 {
    /// @notice The one account that mints and that may name its successor.
    address public minter;

    event MinterChanged(address indexed previous, address indexed minter);

    error NotMinter(address caller, address minter);

    constructor(address minter_) ERC20("Tradewind Test Dollar", "tUSD") ERC20Permit("Tradewind Test Dollar") {
        minter = minter_;
        emit MinterChanged(address(0), minter_);
    }

    modifier onlyMinter() {
        if (msg.sender != minter) revert NotMinter(msg.sender, minter);
        _;
    }

    /// @param amount In base units (10^-6 tUSD).
    function mint(address to, uint256 amount) external onlyMinter {
        _mint(to, amount);
    }

    function setMinter(address next) external onlyMinter {
        emit MinterChanged(minter, next);
        minter = next;
    }

    function decimals() public pure override returns (uint8) {
        return 6;
    }
}
