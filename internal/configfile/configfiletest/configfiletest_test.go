package configfiletest

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"
)

type inner struct {
	IP netip.Addr `yaml:"ip"`
}

type outer struct {
	Name  string   `yaml:"name"`
	Inner inner    `yaml:"inner"`
	List  []*inner `yaml:"list"`
	Words []string `yaml:"words"`
}

func TestWhatAReferenceFileLacksIsFound(t *testing.T) {
	complete := "# who\nname: a\n# in\ninner:\n  ip: 1.2.3.4 # where\n# many\nlist:\n  # each\n  - ip: 1.2.3.4 # where\nwords: [] # some\n"
	if got := undocumented([]byte(complete), reflect.TypeFor[outer]()); got != nil {
		t.Errorf("complete file: %q", got)
	}
	lacking := "name: a\n# in\ninner: {}\n# many\nlist: []\n"
	want := []string{"line 1: name: has no comment", "inner.ip: is not in the file", "list: needs an item that shows its fields", "words: is not in the file"}
	if got := undocumented([]byte(lacking), reflect.TypeFor[outer]()); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
