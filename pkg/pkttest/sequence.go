// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package pkttest

import (
	"fmt"
	"strings"
)

// Sequence collects the packets of a scenario and prints them as a Mermaid sequence diagram, which a failing test may log.
// The zero value is empty and ready. It is not safe for concurrent use.
type Sequence struct {
	steps []string
}

// Add notes that the packet went from one named party to another.
func (s *Sequence) Add(from, to string, pkt []byte) {
	s.steps = append(s.steps, fmt.Sprintf("    %s->>%s: %s", from, to, escape(Describe(pkt))))
}

// Note notes something that is no packet at a named party, such as a drop or time that passed.
func (s *Sequence) Note(at, text string) {
	s.steps = append(s.steps, fmt.Sprintf("    Note over %s: %s", at, escape(text)))
}

// String is the diagram.
func (s *Sequence) String() string {
	return "sequenceDiagram\n" + strings.Join(s.steps, "\n") + "\n"
}

// escape replaces what Mermaid would take for the end of a message or the start of an entity.
func escape(text string) string {
	return strings.NewReplacer("#", "#35;", ";", "#59;").Replace(text)
}
