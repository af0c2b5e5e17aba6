// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Sysctl is one setting: its name with slashes, relative to /proc/sys (net/ipv4/ip_forward), and its value. Only what
// is under net/ belongs to a namespace.
type Sysctl struct {
	Name, Value string
}

// quiet makes a namespace carry only what is sent through it: no IPv6 on any link, whose solicitations would reach the
// dataplane uninvited, and no detour of bridged frames through netfilter, which is on in new namespaces once the
// br_netfilter module is loaded.
var quiet = []Sysctl{
	{"net/ipv6/conf/all/disable_ipv6", "1"},
	{"net/ipv6/conf/default/disable_ipv6", "1"},
	{"net/bridge/bridge-nf-call-iptables", "0"},
	{"net/bridge/bridge-nf-call-ip6tables", "0"},
	{"net/bridge/bridge-nf-call-arptables", "0"},
}

// router makes a namespace forward between its links whatever arrives where, and keep silent about shorter ways: the
// address of an ENI is nobody's neighbour but the bridge's.
var router = []Sysctl{
	{"net/ipv4/ip_forward", "1"},
	{"net/ipv4/conf/all/rp_filter", "0"},
	{"net/ipv4/conf/default/rp_filter", "0"},
	{"net/ipv4/conf/all/send_redirects", "0"},
	{"net/ipv4/conf/default/send_redirects", "0"},
}

// Prepare makes a new namespace fit for use: the loopback up, IPv6 off, bridged frames kept away from netfilter. What
// the kernel was built without needs no turning off.
func Prepare(ns *NS) error {
	if err := SetSysctls(ns, quiet...); err != nil {
		return err
	}
	return SetUp(ns, "lo")
}

// Forward makes ns a router. Call it before its links are made: they take the default settings of the moment.
func Forward(ns *NS) error { return SetSysctls(ns, router...) }

// SetSysctls applies settings in order. Names that this kernel does not have are skipped when they belong to a module
// or protocol that may be missing as a whole (net/bridge, net/ipv6), for then there is nothing to set.
func SetSysctls(ns *NS, settings ...Sysctl) error {
	return Do(ns, func() error {
		for _, s := range settings {
			err := os.WriteFile(filepath.Join("/proc/sys", s.Name), []byte(s.Value), 0)
			if errors.Is(err, os.ErrNotExist) && optional(s.Name) {
				continue
			}
			if err != nil {
				return fmt.Errorf("set sysctl %s to %q in %s: %w", s.Name, s.Value, ns, explain(err))
			}
		}
		return nil
	})
}

// ReadSysctl returns the value of a setting as ns sees it, without the newline.
func ReadSysctl(ns *NS, name string) (string, error) {
	var value string
	err := Do(ns, func() error {
		content, err := os.ReadFile(filepath.Join("/proc/sys", name))
		value = strings.TrimSpace(string(content))
		return err
	})
	if err != nil {
		return "", fmt.Errorf("read sysctl %s in %s: %w", name, ns, err)
	}
	return value, nil
}

func optional(name string) bool {
	return strings.HasPrefix(name, "net/bridge/") || strings.HasPrefix(name, "net/ipv6/")
}
