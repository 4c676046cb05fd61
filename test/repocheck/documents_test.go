package repocheck

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// link finds the target of a Markdown link.
var link = regexp.MustCompile(`\]\(([^)#\s]+)(#[^)]*)?\)`)

func TestLinksInTheDocumentsLead(t *testing.T) {
	found := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && strings.HasPrefix(d.Name(), ".") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".md") {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range link.FindAllStringSubmatch(string(data), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			found++
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s: %s leads nowhere", path, m[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found == 0 {
		t.Error("no link was found in any document")
	}
}

// testName is how documents name tests.
var testName = regexp.MustCompile("`(Test[A-Z][A-Za-z0-9]*)`")

// TestTheTestsThatDocumentsNameExist looks for each test that docs/egress-defects.md and
// docs/policy-defects.md say shows something.
func TestTheTestsThatDocumentsNameExist(t *testing.T) {
	written := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9]*)\(`)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		data, err := os.ReadFile(path)
		for _, m := range declared.FindAllSubmatch(data, -1) {
			written[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, least := range map[string]int{"egress-defects.md": 30, "policy-defects.md": 25} {
		document := filepath.Join(root, "docs", name)
		data, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		named := testName.FindAllSubmatch(data, -1)
		if len(named) < least {
			t.Errorf("%s names only %d tests", document, len(named))
		}
		for _, m := range named {
			if name := string(m[1]); !written[name] {
				t.Errorf("%s names %s, which does not exist", document, name)
			}
		}
	}
}
