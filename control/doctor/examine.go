// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package doctor

import "cmp"

// Options say what to look at. The zero value is the machine itself.
type Options struct {
	// Socket is a daemon's; empty: none is looked at. Expected says that a daemon ought to be there.
	Socket   string
	Expected bool
	// Store is the file of the store; empty: none is looked at.
	Store string
	// Netns are paths of namespaces to look at without a daemon.
	Netns []string
	// Gateway says of them that their traffic is inspected by way of GWLB endpoints, or that they lead to appliances.
	Gateway bool

	// Where the kernel shows itself. Empty: /dev/net/tun, /proc and /sys.
	TUN, Proc, Sys string
}

// examination is one run of the checks.
type examination struct {
	Options
	Report
}

// Examine makes all checks but those of a daemon's ports, see Report.Port. It says whether a daemon listens on the socket.
// It takes some milliseconds.
func Examine(o Options) (report *Report, daemon bool) {
	o.TUN, o.Proc, o.Sys = cmp.Or(o.TUN, "/dev/net/tun"), cmp.Or(o.Proc, "/proc"), cmp.Or(o.Sys, "/sys")
	e := &examination{Options: o, Report: Report{Findings: []Finding{}, Limits: []Limit{}, Notes: []string{}}} // not null in JSON
	tun, privileged := e.tun(), e.privileges()
	if tun && privileged {
		e.devices()
	}
	e.descriptors(self)
	e.inotify()
	e.clock()
	if o.Socket != "" {
		daemon = e.socket()
	}
	if o.Store != "" {
		e.store()
	}
	for _, path := range o.Netns {
		e.namespace(path)
	}
	return &e.Report, daemon
}
