// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package flow

import "testing"

func TestElapsed(t *testing.T) {
	for _, c := range []struct {
		name      string
		now, then uint32
		want      uint32
	}{
		{"same", 5, 5, 0},
		{"later", 70_000, 5, 69_995},
		{"around the wrap", 10, 1<<32 - 20, 30},
		{"to zero", 0, 1<<32 - 1, 1},
		{"longest", 4, 5, 1<<32 - 1},
	} {
		if got := Elapsed(c.now, c.then); got != c.want {
			t.Errorf("%s: Elapsed(%d, %d) = %d, want %d", c.name, c.now, c.then, got, c.want)
		}
		if c.want > 0 && Expired(c.now-1, c.then, c.want) {
			t.Errorf("%s: expired a millisecond early", c.name)
		}
		if !Expired(c.now, c.then, c.want) {
			t.Errorf("%s: not expired in time", c.name)
		}
	}
}
