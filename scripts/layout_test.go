// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Caps, in lines. Generated code has none.
const (
	fileCap     = 500
	functionCap = 70
)

func TestEveryFileHasALicence(t *testing.T) {
	want := "// SPDX-FileCopyrightText: The Isthmus Authors\n// SPDX-License-Identifier: Apache-2.0\n\n"
	for _, f := range goFiles(t) {
		if !strings.HasPrefix(f.text, want) && !ast.IsGenerated(f.syntax) {
			t.Errorf("%s does not begin with the two SPDX lines and an empty one", f.path)
		}
	}
}

func TestCaps(t *testing.T) {
	for _, f := range goFiles(t) {
		if ast.IsGenerated(f.syntax) {
			continue
		}
		if n := strings.Count(f.text, "\n"); n > fileCap {
			t.Errorf("%s has %d lines; split it, the cap is %d", f.path, n, fileCap)
		}
		for _, decl := range f.syntax.Decls {
			function, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := f.line(function.End()) - f.line(function.Pos()) + 1; n > functionCap {
				t.Errorf("%s: %s has %d lines; the cap is %d", f.path, function.Name.Name, n, functionCap)
			}
		}
	}
}

func TestEveryPackageHasADoc(t *testing.T) {
	documented, seen := map[string]bool{}, map[string]bool{}
	for _, f := range goFiles(t) {
		if f.test {
			continue
		}
		dir := filepath.Dir(f.path)
		seen[dir] = true
		documented[dir] = documented[dir] || f.syntax.Doc != nil || ast.IsGenerated(f.syntax)
	}
	for dir := range seen {
		if !documented[dir] {
			t.Errorf("package %s has no package comment", dir)
		}
	}
}

// Each method that a route names has its doc block, in the order of its parts.
func TestEveryStageHasItsDocBlock(t *testing.T) {
	stages := stagesOf(t, "dataplane/route.go")
	if len(stages) < 8 {
		t.Fatalf("found only the stages %v in dataplane/route.go", stages)
	}
	block := regexp.MustCompile(`(?s)^(\w+)\n.*Expects: .*Does: .*Drops: .*See: `)
	documented := map[string]bool{}
	for _, f := range goFiles(t) {
		if f.test || filepath.Dir(f.path) != "dataplane" {
			continue
		}
		for _, decl := range f.syntax.Decls {
			function, ok := decl.(*ast.FuncDecl)
			if !ok || function.Recv == nil || !stages[function.Name.Name] {
				continue
			}
			match := block.FindStringSubmatch(function.Doc.Text())
			documented[function.Name.Name] = match != nil && match[1] == function.Name.Name
		}
	}
	for stage := range stages {
		if !documented[stage] {
			t.Errorf("stage %s has no doc block: its name, then Expects:, Does:, Drops:, See:", stage)
		}
	}
}

// stagesOf returns the names of the methods that are joined by && in a file.
func stagesOf(t *testing.T, name string) map[string]bool {
	t.Helper()
	stages := map[string]bool{}
	for _, f := range goFiles(t) {
		if f.path != name {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			and, ok := n.(*ast.BinaryExpr)
			if !ok {
				return true
			}
			for _, side := range []ast.Expr{and.X, and.Y} {
				if call, ok := side.(*ast.CallExpr); ok {
					if method, ok := call.Fun.(*ast.SelectorExpr); ok {
						stages[method.Sel.Name] = true
					}
				}
			}
			return true
		})
	}
	return stages
}

// Work that is left to do is an issue, not a comment.
func TestNothingIsLeftToDo(t *testing.T) {
	mark := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME)\b`)
	for _, file := range textFiles(t) {
		for n, line := range strings.Split(file.text, "\n") {
			if mark.MatchString(line) {
				t.Errorf("%s:%d: %s", file.path, n+1, strings.TrimSpace(line))
			}
		}
	}
}

// What the documents tell a reader to make can be made.
func TestDocumentedTargetsExist(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	targets := map[string]bool{}
	for _, match := range regexp.MustCompile(`(?m)^([a-z-]+):`).FindAllStringSubmatch(string(makefile), -1) {
		targets[match[1]] = true
	}
	command := regexp.MustCompile("(?m)(?:^[ \t$]*|`)make ([a-z-]+)")
	readme := false
	for _, file := range textFiles(t) {
		if filepath.Ext(file.path) != ".md" {
			continue
		}
		readme = readme || file.path == "README.md"
		for _, match := range command.FindAllStringSubmatch(file.text, -1) {
			if !targets[match[1]] {
				t.Errorf("%s says \"make %s\", which the Makefile does not have", file.path, match[1])
			}
		}
	}
	if !readme {
		t.Error("there is no README.md")
	}
}
