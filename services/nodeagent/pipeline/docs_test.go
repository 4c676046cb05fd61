package pipeline

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const docsPath = "../../../docs/pipeline.md"

var (
	docHeading = regexp.MustCompile(`^## Table (\d+): `)
	docRow     = regexp.MustCompile("^\\| (\\d+|\\{rank\\}|\\{depth\\}) \\| (?:`([^`]*)`)? ?\\| `([^`]*)` \\|")
)

// docShapes reads the tables of docs/pipeline.md as shapes, each as "table flow".
func docShapes(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(docsPath)
	if err != nil {
		t.Fatal(err)
	}
	var shapes []string
	table := ""
	for line := range strings.Lines(string(text)) {
		if found := docHeading.FindStringSubmatch(line); found != nil {
			table = found[1]
			continue
		}
		if strings.HasPrefix(line, "## ") {
			table = ""
		}
		row := docRow.FindStringSubmatch(line)
		if row == nil {
			if table != "" && strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| priority ") {
				t.Errorf("cannot read this row of %s: %s", docsPath, line)
			}
			continue
		}
		match := ""
		if row[2] != "" {
			match = "," + row[2]
		}
		shapes = append(shapes, fmt.Sprintf("%s priority=%s%s actions=%s", table, row[1], match, row[3]))
	}
	return shapes
}

func TestDocsHaveEveryFlowAndNoOther(t *testing.T) {
	docs := docShapes(t)
	var code []string
	for _, m := range meanings {
		code = append(code, fmt.Sprintf("%d %s", m.table, m.flow))
	}
	for _, shape := range code {
		if !slices.Contains(docs, shape) {
			t.Errorf("%s does not have table %s", docsPath, shape)
		}
	}
	for _, shape := range docs {
		if !slices.Contains(code, shape) {
			t.Errorf("%s has, and the code does not: table %s", docsPath, shape)
		}
	}
	if len(docs) != len(code) {
		t.Errorf("%s has %d rows, the code %d shapes", docsPath, len(docs), len(code))
	}
}
