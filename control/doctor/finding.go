// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"strings"
)

// Severity says how bad a finding is.
type Severity string

// Severities.
const (
	Fault   Severity = "fault"   // something does not work
	Warning Severity = "warning" // something is slow, or some packets may be lost
)

// Finding is one thing that is not as it should be.
type Finding struct {
	Severity Severity `json:"severity"`
	// Check names what was looked at, in a word or two; always the same for the same check.
	Check string `json:"check"`
	// Where is the file, namespace or port that the finding is about; empty for the machine as a whole.
	Where string `json:"where,omitempty"`
	// Fault is a sentence, without its full stop.
	Fault string `json:"fault"`
	// Mend is the command to type. What depends on the reader's machine is in capitals, and a remark in parentheses.
	Mend string `json:"mend"`
}

// cut stands between a fault and its command in a text.
const cut = "; mend it with: "

// String is the fault and the command in one line, which Parse takes apart.
func (f Finding) String() string { return f.Fault + cut + f.Mend }

// Parse makes a finding of a text that String made. Of another text it makes a fault without a command.
func Parse(severity Severity, check, where, text string) Finding {
	fault, mend, _ := strings.Cut(text, cut)
	return Finding{Severity: severity, Check: check, Where: where, Fault: fault, Mend: mend}
}

// Limit is a check that could not be made.
type Limit struct {
	Check string `json:"check"`
	// Why says what was in the way, and what to do about it.
	Why string `json:"why"`
}

// Report is the result of an examination.
type Report struct {
	Findings []Finding `json:"findings"`
	Limits   []Limit   `json:"limits"`
	// Checked names the checks that were made.
	Checked []string `json:"checked"`
	// Notes say what was not looked at because it is not there.
	Notes []string `json:"notes"`
}

func (r *Report) checked(check string) { r.Checked = append(r.Checked, check) }

func (r *Report) add(findings ...Finding) { r.Findings = append(r.Findings, findings...) }

func (r *Report) limit(check, format string, args ...any) {
	r.Limits = append(r.Limits, Limit{Check: check, Why: fmt.Sprintf(format, args...)})
}

func (r *Report) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}
