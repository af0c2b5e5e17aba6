// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Translations names what in ns may translate addresses: each chain of nftables for that purpose (nftables chain ip nat
// postrouting), and the nat tables of the older iptables (iptables table nat). What the chains and tables say is not looked
// at: that one is there is enough for every connection to be tracked.
func Translations(ns *NS) ([]string, error) {
	var names []string
	err := Do(ns, func() error {
		for file, tool := range map[string]string{"ip_tables_names": "iptables", "ip6_tables_names": "ip6tables"} {
			tables, err := os.ReadFile("/proc/thread-self/net/" + file)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
			if slices.Contains(strings.Fields(string(tables)), "nat") {
				names = append(names, tool+" table nat")
			}
		}
		chains, err := natChains()
		names = append(names, chains...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for address translation in %s: %w", ns, explain(err))
	}
	slices.Sort(names)
	return names, nil
}

// natChains names the chains of nftables of the type nat, in the namespace of the thread. A kernel without nftables has
// none.
func natChains() ([]string, error) {
	const newChain = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWCHAIN
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETCHAIN, unix.NLM_F_DUMP)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.NFPROTO_UNSPEC, Version: nl.NFNETLINK_V0})
	messages, err := req.Execute(unix.NETLINK_NETFILTER, newChain)
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
		return nil, nil
	}
	if err != nil && !errors.Is(err, nl.ErrDumpInterrupted) {
		return nil, err
	}
	var names []string
	for _, m := range messages {
		if len(m) < nl.SizeofNfgenmsg {
			continue
		}
		attributes, err := nl.ParseRouteAttr(m[nl.SizeofNfgenmsg:])
		if err != nil {
			return nil, err
		}
		text := map[uint16]string{}
		for _, a := range attributes {
			text[a.Attr.Type] = nl.BytesToString(a.Value)
		}
		if text[unix.NFTA_CHAIN_TYPE] == "nat" {
			names = append(names, fmt.Sprintf("nftables chain %s %s %s", nftFamily(m[0]), text[unix.NFTA_CHAIN_TABLE], text[unix.NFTA_CHAIN_NAME]))
		}
	}
	return names, nil
}

// nftFamily is the name that the nft command has for a family.
func nftFamily(family uint8) string {
	switch family {
	case unix.NFPROTO_IPV4:
		return "ip"
	case unix.NFPROTO_IPV6:
		return "ip6"
	}
	return "inet"
}
