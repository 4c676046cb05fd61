package topology

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const examples = "../../../../../examples"

func TestEveryExampleIsATopologyThatCanBeBuilt(t *testing.T) {
	files, err := filepath.Glob(examples + "/*.yaml")
	if err != nil || len(files) < 6 {
		t.Fatalf("found %d examples, %v", len(files), err)
	}
	readme, err := os.ReadFile(examples + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			if _, err := Load(file); err != nil {
				t.Error(err)
			}
			if !strings.Contains(string(readme), "("+filepath.Base(file)+")") {
				t.Errorf("examples/README.md does not mention %s", filepath.Base(file))
			}
		})
	}
}

func TestTheFieldsThatTheExamplesExplainAreAllThereAre(t *testing.T) {
	readme, err := os.ReadFile(examples + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	var text string
	for _, block := range strings.Split(string(readme), "```yaml\n")[1:] {
		block, _, found := strings.Cut(block, "```")
		if !found {
			t.Fatal("a block of YAML in examples/README.md has no end")
		}
		parse(t, block)
		text += block
	}
	_, err = Parse("", []byte("unknown: 1"))
	_, known, _ := strings.Cut(strings.SplitN(err.Error(), "\n", 2)[0], "known here: ")
	for _, field := range strings.Split(known, ", ") {
		if !strings.Contains("\n"+text, "\n"+field+":") {
			t.Errorf("examples/README.md does not explain the field %s", field)
		}
	}
}
