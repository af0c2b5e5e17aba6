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
	if testing.Short() {
		t.Skip("builds the program and a lab")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil || os.Geteuid() != 0 {
		if os.Getenv("ISTHMUS_REQUIRE_PRIVILEGED") == "1" {
			t.Fatal("README.md's commands need root and /dev/net/tun")
		}
		t.Skip("README.md's commands need root and /dev/net/tun")
	}
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	commands := consoleCommands(string(readme))
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
