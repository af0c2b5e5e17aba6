// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-net/isthmus/pkg/netns"
)

// Environment is what a figure depends on beside the systems: a report without it compares with nothing.
type Environment struct {
	Time       time.Time `json:"time"`
	Kernel     string    `json:"kernel"`
	Go         string    `json:"go"`
	Revision   string    `json:"revision,omitempty"` // of this program's source, where the build recorded it
	Processor  string    `json:"processor"`
	CPUs       int       `json:"cpus"`
	GOMAXPROCS int       `json:"gomaxprocs"`
	// Mitigations are the kernel's own words on each processor vulnerability.
	Mitigations map[string]string `json:"mitigations"`
	// Versions are those of the peers' programs that were found.
	Versions map[string]string `json:"versions"`
	// Offloads are what each system's devices had on, as the system reported it.
	Offloads map[string]string `json:"offloads"`

	Workers    int     `json:"workers"` // of isthmus and null
	Pinned     bool    `json:"pinned"`  // each worker on a processor of its own
	MSS        int     `json:"mss"`     // bytes, the same for all systems
	DeviceMTU  int     `json:"device_mtu"`
	TxQueueLen int     `json:"txqueuelen"` // of TUN devices, packets
	Rounds     int     `json:"rounds"`
	Window     float64 `json:"window_seconds"`
	WarmUp     float64 `json:"warm_up_seconds"`
}

// environment reads what can be read of the machine.
func environment(cfg Config) Environment {
	return Environment{
		Time: time.Now().UTC(), Kernel: kernel(), Go: runtime.Version(), Revision: revision(),
		Processor: processor(), CPUs: runtime.NumCPU(), GOMAXPROCS: runtime.GOMAXPROCS(0),
		Mitigations: mitigations(),
		Versions: present(map[string]string{
			"haproxy": firstLine("haproxy", "-v"), "nft": firstLine("nft", "--version"), "ip": firstLine("ip", "-V"),
		}),
		Offloads: map[string]string{},
		Workers:  cfg.Workers, Pinned: cfg.Pin, MSS: segmentSize, DeviceMTU: netns.PortMTU,
		TxQueueLen: netns.PortTxQueueLen, Rounds: cfg.Rounds,
		Window: cfg.Duration.Seconds(), WarmUp: warmUp.Seconds(),
	}
}

func kernel() string {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return ""
	}
	return unix.ByteSliceToString(name.Release[:]) + " " + unix.ByteSliceToString(name.Version[:])
}

func revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			return setting.Value
		}
	}
	return ""
}

func processor() string {
	content, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(content)) {
		if name, model, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(model)
		}
	}
	return runtime.GOARCH
}

func mitigations() map[string]string {
	out := map[string]string{}
	files, _ := filepath.Glob("/sys/devices/system/cpu/vulnerabilities/*")
	for _, file := range files {
		if content, err := os.ReadFile(file); err == nil {
			out[filepath.Base(file)] = strings.TrimSpace(string(content))
		}
	}
	return out
}

// firstLine is the first line a program prints, or empty when it cannot be run.
func firstLine(program string, args ...string) string {
	output, err := exec.Command(program, args...).Output()
	if err != nil {
		return ""
	}
	line, _, _ := bytes.Cut(output, []byte("\n"))
	return strings.TrimSpace(string(line))
}

// present removes empty values.
func present(m map[string]string) map[string]string {
	for name, value := range m {
		if value == "" {
			delete(m, name)
		}
	}
	return m
}
