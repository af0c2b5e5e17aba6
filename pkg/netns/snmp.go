// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// ReadSNMP returns the protocol counters of ns since it was made: /proc/net/snmp and /proc/net/netstat merged, named
// by protocol and counter in one word as nstat does (TcpInCsumErrors, TcpOutRsts, IpInHdrErrors, TcpExtBeyondWindow,
// TcpExtTCPACKSkippedSeq). Values the kernel gives as negative, such as TcpMaxConn, are left out.
func ReadSNMP(ns *NS) (map[string]uint64, error) {
	counters := make(map[string]uint64)
	err := Do(ns, func() error {
		for _, name := range []string{"snmp", "netstat"} {
			// /proc/net itself is that of the main thread.
			content, err := os.ReadFile("/proc/thread-self/net/" + name)
			if err != nil {
				return err
			}
			if err := parseSNMP(content, counters); err != nil {
				return fmt.Errorf("/proc/net/%s: %w", name, err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read counters of %s: %w", ns, err)
	}
	return counters, nil
}

// parseSNMP adds what it reads to counters. The format is pairs of lines, "Tcp: Name Name" above "Tcp: 1 2".
func parseSNMP(content []byte, counters map[string]uint64) error {
	lines := bufio.NewScanner(bytes.NewReader(content))
	for lines.Scan() {
		names := strings.Fields(lines.Text())
		if !lines.Scan() {
			return fmt.Errorf("names without values: %q", names)
		}
		values := strings.Fields(lines.Text())
		if len(names) == 0 || len(names) != len(values) || names[0] != values[0] {
			return fmt.Errorf("names %q do not match values %q", names, values)
		}
		protocol := strings.TrimSuffix(names[0], ":")
		for i, name := range names[1:] {
			if n, err := strconv.ParseUint(values[i+1], 10, 64); err == nil {
				counters[protocol+name] = n
			}
		}
	}
	return lines.Err()
}
