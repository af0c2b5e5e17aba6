// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"errors"
	"io"
	"net"
)

const (
	// bulkWrite is large enough for the kernel to make full super-packets of it.
	bulkWrite = 256 << 10
	// bulkRead takes whatever the receive buffer holds, so that reading is few system calls.
	bulkRead = 1 << 20
)

// bulkClient sends on one connection until it breaks.
func bulkClient(s *loadSpec, t *tally) {
	conn, err := s.dial(0)
	if err != nil {
		t.fail(err)
		return
	}
	defer conn.Close()
	buffer := make([]byte, bulkWrite)
	for {
		n, err := conn.Write(buffer)
		t.bytes.Add(uint64(n))
		if err != nil {
			t.fail(err)
			return
		}
		t.success()
	}
}

// bulkServer reads and discards. What it has read is the figure: bytes on their way do not count.
func bulkServer(conn net.Conn, t *tally) error {
	buffer := make([]byte, bulkRead)
	for {
		n, err := conn.Read(buffer)
		t.bytes.Add(uint64(n))
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
