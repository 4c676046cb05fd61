package repocheck

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// limits of CONTRIBUTING.md, in lines.
const (
	maxFile     = 500
	maxFunction = 70
)

// bannedNames say nothing about what is inside.
var bannedNames = []string{"util", "utils", "common", "helper", "helpers", "misc", "base", "core", "types", "models", "manager"}

// sources answers every Go file that a person wrote.
func sources(t *testing.T) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "bin" || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, ".pb.go") {
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 50 {
		t.Fatalf("only %d Go files found below %s", len(files), root)
	}
	return files
}

func parse(t *testing.T, path string) (*token.FileSet, *ast.File) {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	return fset, file
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	documented := map[string]bool{}
	for _, path := range sources(t) {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		_, file := parse(t, path)
		dir := filepath.Dir(path)
		documented[dir] = documented[dir] || file.Doc != nil
	}
	for dir, ok := range documented {
		if !ok {
			t.Errorf("%s: no package comment", dir)
		}
	}
}

func TestFilesAndFunctionsStaySmall(t *testing.T) {
	for _, path := range sources(t) {
		fset, file := parse(t, path)
		if lines := fset.File(file.Pos()).LineCount(); lines > maxFile {
			t.Errorf("%s: %d lines, at most %d: is it still one idea?", path, lines, maxFile)
		}
		if strings.HasSuffix(path, "_test.go") {
			continue // a table is as long as its cases
		}
		for _, decl := range file.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if lines := fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line + 1; lines > maxFunction {
				t.Errorf("%s: %s has %d lines, at most %d", path, fn.Name.Name, lines, maxFunction)
			}
		}
	}
}

func TestNoNameSaysNothing(t *testing.T) {
	for _, path := range sources(t) {
		name := strings.TrimSuffix(strings.TrimSuffix(filepath.Base(path), ".go"), "_test")
		for _, part := range []string{name, filepath.Base(filepath.Dir(path))} {
			if slices.Contains(bannedNames, part) {
				t.Errorf("%s: %q says nothing about what is inside", path, part)
			}
		}
	}
}

func TestExportedNamesAreDocumented(t *testing.T) {
	for _, path := range sources(t) {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		fset, file := parse(t, path)
		if file.Name.Name == "main" {
			continue
		}
		for _, decl := range file.Decls {
			for name, doc := range exported(decl) {
				if !doc {
					t.Errorf("%s: %s is exported and not documented", fset.Position(decl.Pos()), name)
				}
			}
		}
	}
}

// selfExplaining are methods that the standard library's interfaces define.
var selfExplaining = []string{"Error", "String", "Unwrap", "Is", "UnmarshalText", "MarshalText"}

// exported answers the exported names of a declaration, and whether each is
// documented: by itself, on its line, or by the group it stands in.
func exported(decl ast.Decl) map[string]bool {
	names := map[string]bool{}
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && exportedReceiver(d) && !slices.Contains(selfExplaining, d.Name.Name) {
			names[d.Name.Name] = d.Doc != nil
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() {
					names[s.Name.Name] = s.Doc != nil || d.Doc != nil || s.Comment != nil
				}
			case *ast.ValueSpec:
				for _, name := range s.Names {
					if name.IsExported() {
						names[name.Name] = s.Doc != nil || d.Doc != nil || s.Comment != nil
					}
				}
			}
		}
	}
	return names
}

func exportedReceiver(fn *ast.FuncDecl) bool {
	if fn.Recv == nil {
		return true
	}
	receiver := fn.Recv.List[0].Type
	for {
		switch r := receiver.(type) {
		case *ast.StarExpr:
			receiver = r.X
		case *ast.IndexExpr:
			receiver = r.X
		case *ast.Ident:
			return r.IsExported()
		default:
			return false
		}
	}
}

func TestTheRepositoryStandsAlone(t *testing.T) {
	for _, path := range sources(t) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, banned := range []string{"/" + "work/", "../" + "shared"} {
			if strings.Contains(string(data), banned) {
				t.Errorf("%s: mentions %s, which no user has", path, banned)
			}
		}
	}
}

// TestNothingThatIsBuiltIsKept looks at all files that git has, those below hidden directories
// among them.
func TestNothingThatIsBuiltIsKept(t *testing.T) {
	const most = 512 << 10 // the largest that a person should read, or a tool of ours compare with
	list, err := exec.Command("git", "-C", root, "ls-files", "-z").Output()
	if err != nil {
		t.Fatalf("list the files: %v", err)
	}
	seen := 0
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		info, err := os.Lstat(filepath.Join(root, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // about to be deleted
		}
		if err != nil {
			t.Fatal(err)
		}
		if seen++; info.Size() > most {
			t.Errorf("%s has %d KiB, at most %d", name, info.Size()>>10, most>>10)
		}
	}
	if seen < 500 {
		t.Errorf("only %d files were looked at", seen)
	}
}
