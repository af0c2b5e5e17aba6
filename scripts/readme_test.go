// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// unrun are the commands of README.md that this test does not run: the one that runs it, and the one that takes minutes.
var unrun = map[string]bool{"make test": true, "make bench": true}

// TestReadmeCommands runs what README.md tells a reader to type, in its order.
func TestReadmeCommands(t *testing.T) {
	needsNetwork(t)
	commands := consoleCommands(readme(t))
	if len(commands) < 3 {
		t.Fatalf("README.md has %d commands in console blocks: has their form changed?", len(commands))
	}
	for _, command := range commands {
		if unrun[command] {
			continue
		}
		out, err := run(t, command)
		if program, lab, ok := strings.Cut(command, " lab up examples/"); ok && err == nil {
			// Where a later command fails the lab must not stay. Taking one down twice is an error that says so.
			t.Cleanup(func() {
				_ = exec.Command("bash", "-c", "cd "+root+"; "+program+" lab down "+strings.TrimSuffix(lab, ".yaml")).Run()
			})
		}
		if err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
		if command == "make demo" && !strings.Contains(out, " passed, 0 failed") {
			t.Errorf("make demo does not end as README.md says:\n%s", out)
		}
	}
}

func run(t *testing.T, command string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", command)
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestReadmeScripts runs the scripts of README.md that begin with namespaces, each where nothing of the host can be changed:
// with a /run and a /var/lib of its own, which go with the namespaces in them when it ends.
func TestReadmeScripts(t *testing.T) {
	needsNetwork(t)
	if out, err := run(t, "make build"); err != nil {
		t.Fatalf("make build: %v\n%s", err, out)
	}
	for _, script := range scriptsOf(readme(t)) {
		first, _, _ := strings.Cut(script, "\n")
		t.Run(first, func(t *testing.T) {
			prepare := "set -e; mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /var/lib; trap 'kill $(jobs -p)' EXIT\n"
			cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "bash", "-c", prepare+script)
			cmd.Dir = root
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// needsNetwork skips, or fails where nothing may be skipped, what cannot make namespaces and devices here.
func needsNetwork(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("builds the program and a lab")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil || os.Geteuid() != 0 {
		if os.Getenv("ISTHMUS_REQUIRE_PRIVILEGED") == "1" {
			t.Fatal("README.md's commands need root and /dev/net/tun")
		}
		t.Skip("README.md's commands need root and /dev/net/tun")
	}
}

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// scriptsOf are the blocks marked sh.
func scriptsOf(text string) (scripts []string) {
	for i, block := range strings.Split(text, "```") {
		if body, ok := strings.CutPrefix(block, "sh\n"); ok && i%2 == 1 {
			scripts = append(scripts, body)
		}
	}
	return scripts
}

// consoleCommands are the lines that begin with a prompt in blocks marked console.
func consoleCommands(text string) (commands []string) {
	for i, block := range strings.Split(text, "```") {
		body, console := strings.CutPrefix(block, "console\n")
		if i%2 == 0 || !console {
			continue
		}
		for line := range strings.Lines(body) {
			if command, ok := strings.CutPrefix(line, "$ "); ok {
				commands = append(commands, strings.TrimSpace(command))
			}
		}
	}
	return commands
}
