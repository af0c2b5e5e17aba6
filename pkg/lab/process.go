// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/isthmus-net/isthmus/pkg/netns"
)

// Process is something that runs as long as the lab does.
type Process struct {
	// Name is unique in the lab.
	Name string
	// Node is where it runs; empty is the namespace of the host.
	Node string
	Argv []string
	// Listen, if not 0, is a TCP port of the node that the process takes connections on: it is listened on before the
	// process starts, and handed over as descriptor 3 (see Inherited). So nobody finds it closed.
	Listen uint16
}

// record is what a lab remembers of a process: enough to find it again, and to tell it from any other.
type record struct {
	Process
	// Token is in the environment of the process. It is written down before the process exists.
	Token string
	// PID, and when and in which run of the machine the process started.
	PID   int
	Start uint64
	Boot  string
}

// tokenVariable is the environment variable of the token.
const tokenVariable = "ISTHMUS_LAB_PROCESS"

// Processes lists what is to run in the instances, for Launch. Built-in servers are run by program with the arguments
// serve, which gives the flags behind them to ServeInherited; appliances are its subcommand of that name.
func (t *Topology) Processes(program string, serve ...string) []Process {
	var list []Process
	for _, v := range t.VPCs {
		for _, in := range v.Instances {
			for i, run := range in.Run {
				p := Process{Name: in.Name + "-" + strconv.Itoa(i), Node: in.Name, Argv: run.Command}
				switch {
				case run.Server != "":
					p.Listen = run.Port
					p.Argv = append(append([]string{program}, serve...), run.options(in.Name).Flags()...)
				case run.Appliance != nil:
					p.Argv = append([]string{program, "appliance"}, run.Appliance.flags()...)
				}
				list = append(list, p)
			}
		}
	}
	return list
}

// ApplianceDevice is the name of an appliance's devices in tun mode: one for each endpoint, since VPCs may have the same
// addresses.
const ApplianceDevice = "gwlb%d"

// flags are the appliance's options as command line arguments of `isthmus appliance`.
func (a *Appliance) flags() []string {
	flags := []string{"--mode=" + a.Mode, "--device=" + ApplianceDevice, "--health=:" + strconv.Itoa(int(a.HealthPort))}
	for _, rule := range a.Drop {
		flags = append(flags, "--drop="+rule)
	}
	return flags
}

// Launch starts a process of the lab in dir, detached from the caller: it survives the caller, prints to its log, and
// ends with Stop or Down.
func Launch(dir string, p Process) error {
	unlock, err := lock(dir)
	if err != nil {
		return fmt.Errorf("launch %s: %w", p.Name, err)
	}
	defer unlock()
	if err := launch(dir, p); err != nil {
		return fmt.Errorf("launch %s: %w", p.Name, err)
	}
	return nil
}

func launch(dir string, p Process) error {
	if _, err := os.Stat(recordFile(dir, p.Name)); err == nil {
		return fmt.Errorf("there is a process of the name (stop it first): %w", os.ErrExist)
	}
	log, err := os.OpenFile(Log(dir, p.Name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	r := record{Process: p, Token: rand.Text()}
	cmd := exec.Command(p.Argv[0], p.Argv[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), tokenVariable+"="+r.Token)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if p.Listen != 0 {
		file, err := listen(dir, p)
		if err != nil {
			return err
		}
		defer file.Close()
		cmd.ExtraFiles = []*os.File{file}
	}
	if err := r.write(dir); err != nil {
		return err
	}
	if p.Node == "" {
		err = cmd.Start()
	} else {
		err = Start(cmd, dir, p.Node)
	}
	if err != nil {
		return errors.Join(err, os.Remove(recordFile(dir, p.Name)))
	}
	// Nobody but us can collect it while we live, and a process that was not collected counts as running.
	defer func() { go cmd.Wait() }()
	r.PID, r.Boot = cmd.Process.Pid, bootID()
	if found, err := readProc(r.PID); err == nil {
		r.Start = found.start
	}
	return r.write(dir)
}

// listen opens the port of a process inside its node.
func listen(dir string, p Process) (*os.File, error) {
	ns, err := openNode(dir, p.Node)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	network := "tcp4"
	if off, err := netns.ReadSysctl(ns, "net/ipv6/conf/all/disable_ipv6"); err == nil && off == "0" {
		network = "tcp" // both
	}
	listener, err := netns.Listen(ns, network, ":"+strconv.Itoa(int(p.Listen)))
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	return listener.(interface{ File() (*os.File, error) }).File()
}

func recordFile(dir, process string) string { return filepath.Join(dir, "pids", process) }

func (r *record) write(dir string) error {
	content, err := json.Marshal(r)
	if err != nil {
		return err
	}
	// Written aside and moved, so that a crash leaves the old record or the new one.
	file := recordFile(dir, r.Name)
	aside := filepath.Join(dir, "pids", ".new")
	if err := os.WriteFile(aside, content, 0o644); err != nil {
		return err
	}
	return os.Rename(aside, file)
}

// records reads all records of a lab. One that a crash has cut short is left out: its process was never started.
func records(dir string) ([]record, error) {
	files, err := filepath.Glob(filepath.Join(dir, "pids", "[a-z0-9]*"))
	if err != nil {
		return nil, err
	}
	var list []record
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var r record
		if json.Unmarshal(content, &r) == nil {
			list = append(list, r)
		}
	}
	return list, nil
}

// ProcessStatus says how a process of a lab does.
type ProcessStatus struct {
	Process
	// PID is 0 when the process has ended.
	PID int
}

// Status lists the processes of the lab in dir, in the order of their names.
func Status(dir string) ([]ProcessStatus, error) {
	list, err := records(dir)
	if err != nil {
		return nil, fmt.Errorf("status of lab in %s: %w", dir, err)
	}
	var out []ProcessStatus
	for _, r := range list {
		status := ProcessStatus{Process: r.Process}
		if found, err := readProc(r.PID); err == nil && r.is(found) {
			status.PID = r.PID
		}
		out = append(out, status)
	}
	return out, nil
}

// Stop ends one process of the lab in dir, and what it has started. One that has ended already is a success.
func Stop(dir, name string) error {
	unlock, err := lock(dir)
	if err != nil {
		return fmt.Errorf("stop %s: %w", name, err)
	}
	defer unlock()
	list, err := records(dir)
	if err != nil {
		return fmt.Errorf("stop %s: %w", name, err)
	}
	for _, r := range list {
		if r.Name == name {
			return stop(dir, []record{r})
		}
	}
	return fmt.Errorf("stop %s: %w: the lab in %s has no such process", name, os.ErrNotExist, dir)
}

// stopAll ends all processes of a lab.
func stopAll(dir string) error {
	list, err := records(dir)
	if err != nil {
		return err
	}
	return stop(dir, list)
}

// stop ends processes and forgets them.
func stop(dir string, list []record) error {
	for {
		processes, err := owned(dir, list)
		if err != nil {
			return err
		}
		if len(processes) == 0 {
			break // also none that one of those ended has started meanwhile
		}
		if err := terminate(processes); err != nil {
			return err
		}
	}
	for _, r := range list {
		if err := os.Remove(recordFile(dir, r.Name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}
