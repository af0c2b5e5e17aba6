// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/isthmus-net/isthmus/pkg/vpc"
)

const (
	// lookInterval is how often ports are looked at without being told. Files under /proc are never told of.
	lookInterval = 500 * time.Millisecond
	// calm is how long a file must be left alone before it is read: half of a file may be a valid one, with half of
	// the endpoints.
	calm = 100 * time.Millisecond
)

// watcher tells of changes to a configuration file and to the directories that hold namespaces. Directories are
// watched, not files, so that renames and replaced links are seen.
type watcher struct {
	fs       *fsnotify.Watcher
	file     string // the configuration, or ""
	dirs     map[string]bool
	followed *vpc.State
	tick     *time.Ticker
	quiet    *time.Timer // runs while the configuration's directory changes
	ports    chan struct{}
}

// newWatcher watches the directory of a file, which may be "".
func newWatcher(file string) (*watcher, error) {
	fs, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watching files: %w (raise fs.inotify.max_user_instances?)", err)
	}
	w := &watcher{fs: fs, dirs: map[string]bool{}, tick: time.NewTicker(lookInterval), quiet: time.NewTimer(0), ports: make(chan struct{}, 1)}
	w.quiet.Stop()
	if file == "" {
		return w, nil
	}
	w.file = file
	if err := fs.Add(filepath.Dir(file)); err != nil {
		w.close()
		return nil, fmt.Errorf("watching the directory of %s: %w", file, err)
	}
	return w, nil
}

func (w *watcher) close() {
	w.fs.Close()
	w.tick.Stop()
	w.quiet.Stop()
}

// follow watches the directories of a state's namespaces in place of those before. What cannot be watched is found by
// the ticker.
func (w *watcher) follow(s *vpc.State) {
	if s == w.followed {
		return
	}
	w.followed = s
	dirs := map[string]bool{}
	for i := range s.Ports {
		dirs[filepath.Dir(s.Ports[i].Netns)] = true
	}
	for dir := range w.dirs {
		if !dirs[dir] && (w.file == "" || dir != filepath.Dir(w.file)) {
			w.fs.Remove(dir)
		}
	}
	for dir := range dirs {
		if !w.dirs[dir] {
			w.fs.Add(dir)
		}
	}
	w.dirs = dirs
}

func (w *watcher) events() <-chan fsnotify.Event { return w.fs.Events }
func (w *watcher) errors() <-chan error          { return w.fs.Errors }

// sort decides what an event is about.
func (w *watcher) sort(e fsnotify.Event) {
	if w.concernsFile(e.Name) {
		w.quiet.Reset(calm)
	}
	if w.dirs[filepath.Dir(e.Name)] {
		w.notePorts()
	}
}

// concernsFile says whether a change may be one of the configuration: its own name, or any beside it where it is a
// link, for then a part of the link may have changed (as Kubernetes replaces mounted files).
func (w *watcher) concernsFile(name string) bool {
	if w.file == "" || filepath.Dir(name) != filepath.Dir(w.file) {
		return false
	}
	if filepath.Base(name) == filepath.Base(w.file) {
		return true
	}
	info, err := os.Lstat(w.file)
	return err == nil && info.Mode()&os.ModeSymlink != 0
}

// suspect has everything looked at, after events were lost.
func (w *watcher) suspect() {
	if w.file != "" {
		w.quiet.Reset(calm)
	}
	w.notePorts()
}

func (w *watcher) notePorts() {
	select {
	case w.ports <- struct{}{}:
	default:
	}
}

// fileChanged tells that the configuration may have changed and is calm.
func (w *watcher) fileChanged() <-chan time.Time { return w.quiet.C }

// portsChanged tells that namespaces may have come or gone.
func (w *watcher) portsChanged() <-chan struct{} { return w.ports }
