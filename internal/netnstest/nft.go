package netnstest

import (
	"slices"
	"strings"
	"testing"

	"github.com/damask-sdn/damask/internal/proctest"
)

// Printed answers all nftables rules of the namespace as nft prints them, without what
// counters have counted. It fails the test if nft cannot print them, or cannot read what
// it printed: an empty namespace that gets it must print the same. Devices that rules are bound to
// must be there too, so the test says how to make them, if there are any.
func (ns *Namespace) Printed(t testing.TB, devices ...string) string {
	t.Helper()
	proctest.Need(t, "nft")
	printed := ns.Run(t, "nft", "-s", "list", "ruleset")
	other := New(t, ns.name+"-again")
	for _, device := range devices {
		other.Run(t, "ip", "tuntap", "add", device, "mode", "tap")
	}
	load := other.Command("nft", "-f", "-")
	load.Stdin = strings.NewReader(printed)
	if out, err := load.CombinedOutput(); err != nil {
		t.Fatalf("nft does not read what it printed in %s: %v\n%s\n%s", ns.name, err, out, printed)
	}
	if again := other.Run(t, "nft", "-s", "list", "ruleset"); !slices.Equal(words(again), words(printed)) {
		t.Errorf("nft read what it printed in %s, and prints\n%s\nnot\n%s", ns.name, again, printed)
	}
	return printed
}

// words are those of a ruleset in order: sets and chains have none.
func words(ruleset string) []string {
	return slices.Sorted(strings.FieldsFuncSeq(ruleset, func(r rune) bool { return strings.ContainsRune(" ,\t\n", r) }))
}
