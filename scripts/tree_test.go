// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// root is the top of the tree, seen from here.
const root = ".."

// file is a file of the tree. Go files have their syntax.
type file struct {
	path, text string // path from the top
	test       bool   // compiled into tests only
	syntax     *ast.File
	positions  *token.FileSet
}

func (f *file) line(p token.Pos) int { return f.positions.Position(p).Line }

// textFiles returns all files that people write.
func textFiles(t *testing.T) []*file {
	t.Helper()
	files, err := readTree()
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// goFiles returns all Go files.
func goFiles(t *testing.T) []*file {
	t.Helper()
	return slices.DeleteFunc(slices.Clone(textFiles(t)), func(f *file) bool { return f.syntax == nil })
}

var readTree = sync.OnceValues(func() ([]*file, error) {
	var files []*file
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if name != root && notOurs(entry.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		if !written(name) {
			return nil
		}
		f, err := readFile(name)
		files = append(files, f)
		return err
	})
	return files, err
})

// notOurs says which directories hold nothing that people write.
func notOurs(dir string) bool {
	return strings.HasPrefix(dir, ".") && dir != ".ci" || dir == "bin" || dir == "out" || dir == "testdata"
}

func written(name string) bool {
	switch filepath.Ext(name) {
	case ".go", ".s", ".md", ".sh", ".proto", ".yaml", ".yml", ".mod":
		return true
	}
	return filepath.Base(name) == "Makefile" || strings.Contains(name, "/.ci/")
}

func readFile(name string) (*file, error) {
	content, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	path, err := filepath.Rel(root, name)
	if err != nil {
		return nil, err
	}
	f := &file{path: path, text: string(content), test: strings.HasSuffix(name, "_test.go")}
	if filepath.Ext(name) == ".go" {
		f.positions = token.NewFileSet()
		f.syntax, err = parser.ParseFile(f.positions, name, content, parser.ParseComments|parser.SkipObjectResolution)
	}
	return f, err
}

// goPackage is what `go list -json` says of a package; path is from the top.
type goPackage struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
	path                               string
}

// packages lists all packages of the project.
func packages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports,TestImports,XTestImports", "./...")
	cmd.Dir, cmd.Stderr = root, os.Stderr
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []goPackage
	for decoder := json.NewDecoder(bytes.NewReader(output)); decoder.More(); {
		var p goPackage
		if err := decoder.Decode(&p); err != nil {
			t.Fatalf("go list: %v", err)
		}
		p.path = strings.TrimPrefix(p.ImportPath, module+"/")
		all = append(all, p)
	}
	return all
}
