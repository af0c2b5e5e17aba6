// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/dataplane/port"
	"github.com/isthmus-net/isthmus/pkg/netns"
)

// tun looks for where devices come from.
func (e *examination) tun() bool {
	const check = "tun"
	const container = " (in a container: --device /dev/net/tun)"
	file, err := os.OpenFile(e.TUN, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		e.limit(check, "%s may not be opened by you; run as root", e.TUN)
		return false
	}
	e.checked(check)
	f := Finding{Severity: Fault, Check: check, Where: e.TUN}
	switch {
	case err == nil:
		file.Close()
		return true
	case errors.Is(err, fs.ErrNotExist):
		f.Fault = e.TUN + " is missing, so no port can be opened"
		f.Mend = fmt.Sprintf("modprobe tun; [ -e %[1]s ] || { mkdir -p %[2]s; mknod %[1]s c 10 200; }", e.TUN, filepath.Dir(e.TUN)) + container
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		f.Fault = e.TUN + " has no driver behind it, so no port can be opened"
		f.Mend = "modprobe tun"
	default:
		f.Fault = fmt.Sprintf("%s cannot be opened (%v), so no port can be", e.TUN, err)
		f.Mend = "chmod 0666 " + e.TUN + container
	}
	e.add(f)
	return false
}

// capabilities are what a daemon needs, by their number.
var capabilities = []struct {
	bit  int
	name string
}{{unix.CAP_NET_ADMIN, "NET_ADMIN"}, {unix.CAP_SYS_ADMIN, "SYS_ADMIN"}}

// privileges says whether this process may do what a daemon does. What an ordinary user may not is no fault of the
// machine.
func (e *examination) privileges() bool {
	const check = "privileges"
	missing, err := e.missing()
	switch {
	case err != nil:
		e.limit(check, "%v", err)
		return false
	case len(missing) > 0 && os.Geteuid() != 0:
		e.limit(check, "you lack CAP_%s, so devices, offloads, steering and namespaces were not tried out; run as root", strings.Join(missing, " and CAP_"))
		return false
	}
	e.checked(check)
	if len(missing) > 0 {
		e.add(Finding{
			Severity: Fault, Check: check, Fault: "root lacks CAP_" + strings.Join(missing, " and CAP_") + " here, so a daemon can neither make devices nor enter namespaces",
			Mend: "docker run --cap-add " + strings.Join(missing, " --cap-add ") + " --device /dev/net/tun IMAGE (or what your container runtime has in its place)",
		})
		return false
	}
	return true
}

// missing are the capabilities that this process has not.
func (e *examination) missing() (names []string, err error) {
	status, err := os.ReadFile(filepath.Join(e.Proc, "self/status"))
	if err != nil {
		return nil, fmt.Errorf("reading the capabilities of this process: %w", err)
	}
	_, rest, _ := strings.Cut(string(status), "\nCapEff:")
	field, _, _ := strings.Cut(rest, "\n")
	set, err := strconv.ParseUint(strings.TrimSpace(field), 16, 64)
	if err != nil {
		return nil, fmt.Errorf("reading the capabilities of this process: %w", err)
	}
	for _, c := range capabilities {
		if set&(1<<c.bit) == 0 {
			names = append(names, c.name)
		}
	}
	return names, nil
}

// devices tries out what ports are made of, in a namespace of its own.
func (e *examination) devices() {
	const check = "namespaces"
	e.checked(check)
	ns, err := netns.Anonymous()
	if err != nil {
		e.add(Finding{
			Severity: Fault, Check: check, Fault: fmt.Sprintf("network namespaces cannot be made: %v", err),
			Mend: "sysctl -w user/max_net_namespaces=10000 (in a container: --privileged)",
		})
		return
	}
	defer ns.Close()
	if err := netns.Prepare(ns); err != nil {
		e.add(Finding{
			Severity: Fault, Check: check, Fault: fmt.Sprintf("namespaces cannot be configured: %v", err),
			Mend: "mount -o remount,rw /proc/sys (in a container: --privileged)",
		})
		return
	}
	e.offloads()
	e.queues(ns)
}

// offloads has the dataplane's own self-test say what works.
func (e *examination) offloads() {
	const check = "offloads"
	c := port.Probe()
	if c.VNetHdr && c.TSO && c.USO && len(c.Reasons) > 0 {
		e.limit(check, "%s", strings.Join(c.Reasons, "; "))
		return
	}
	e.checked(check)
	for _, reason := range c.Reasons {
		e.add(Finding{
			Severity: Warning, Check: check, Fault: reason + ", so it stays off and bulk traffic is slower",
			Mend: "apt-get install linux-image-amd64 (a newer kernel, then reboot; UDP super-packets need 6.2)",
		})
	}
}

// queues opens a device with two, and steers packets to them.
func (e *examination) queues(ns *netns.NS) {
	const check = "queues"
	e.checked(check)
	var p *port.TUN
	err := netns.Do(ns, func() (err error) {
		p, err = port.OpenTUN(port.Config{Name: "doctor", Device: "doctor0", Queues: 2})
		return err
	})
	if err != nil {
		e.add(Finding{
			Severity: Fault, Check: check, Fault: fmt.Sprintf("a device with two queues cannot be opened: %v", err),
			Mend: "isthmus daemon --workers 1",
		})
		return
	}
	defer p.Close()
	e.checked("steering")
	if err := p.Steer(port.Steering{}); err != nil {
		e.add(Finding{
			Severity: Warning, Check: "steering",
			Fault: fmt.Sprintf("the kernel does not give packets to the worker that owns them (%v), so workers hand many to each other", err),
			Mend:  "isthmus daemon --workers 1 (or a kernel with CONFIG_BPF_SYSCALL, and CAP_BPF)",
		})
	}
}
