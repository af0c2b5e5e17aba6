// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestParseSNMP(t *testing.T) {
	tests := []struct {
		name, content string
		want          map[string]uint64
		bad           bool
	}{
		{name: "empty", want: map[string]uint64{}},
		{
			name:    "two protocols",
			content: "Ip: Forwarding InReceives\nIp: 1 20\nTcp: MaxConn OutRsts\nTcp: -1 3\n",
			want:    map[string]uint64{"IpForwarding": 1, "IpInReceives": 20, "TcpOutRsts": 3},
		},
		{name: "no values", content: "Ip: A\n", bad: true},
		{name: "too few values", content: "Ip: A B\nIp: 1\n", bad: true},
		{name: "other protocol", content: "Ip: A\nTcp: 1\n", bad: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := make(map[string]uint64)
			err := parseSNMP([]byte(test.content), got)
			if (err != nil) != test.bad {
				t.Fatalf("error %v, want one: %v", err, test.bad)
			}
			if diff := cmp.Diff(test.want, got); !test.bad && diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestExplainKeepsTheError(t *testing.T) {
	if err := explain(unix.EPERM); err == unix.EPERM {
		t.Error("missing privilege is not explained")
	}
	if err := explain(unix.EEXIST); err != unix.EEXIST {
		t.Errorf("%v was changed", err)
	}
}
