package svcsync

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/damask-sdn/damask/internal/netnstest"
)

// counters and handles differ between two kernels that mean the same.
var (
	comments = regexp.MustCompile(`(?m)^#.*\n`)
	counters = regexp.MustCompile(`\[\d+:\d+\]`)
	handles  = regexp.MustCompile(` # handle \d+`)
	expiries = regexp.MustCompile(` expires \S+`)
	builtins = regexp.MustCompile(`(?m)^:[A-Z]+ ACCEPT \[0:0\]\n|^COMMIT\n|^\*[a-z]+\n`)
)

// rulesetOf is all rules of a namespace, as text that is equal where the rules mean the
// same: the order of chains, of elements, and of services among each other in a shared
// chain means nothing.
func rulesetOf(t testing.TB, ns *netnstest.Namespace) string {
	t.Helper()
	var all strings.Builder
	for _, program := range []string{"iptables-nft-save", "iptables-legacy-save"} {
		all.WriteString(program + "\n" + normalSave(ns.Run(t, program)))
	}
	tables := strings.Split(ns.Run(t, "nft", "list", "tables"), "\n")
	for _, table := range tables {
		// What iptables-nft keeps in nftables has been printed above.
		if table != "" && !slices.Contains([]string{"table ip nat", "table ip filter", "table ip mangle", "table ip raw"}, table) {
			all.WriteString(normalTable(ns.Run(t, "nft", append([]string{"-s", "list"}, strings.Fields(table)...)...)))
		}
	}
	return all.String()
}

// normalSave sorts what iptables-save prints. Rules of one chain keep their order, but
// for those of our shared chains.
func normalSave(text string) string {
	text = counters.ReplaceAllString(comments.ReplaceAllString(text, ""), "[0:0]")
	text = builtins.ReplaceAllString(text, "")
	var chains, rules []string
	shared := map[string][]string{}
	for line := range strings.Lines(text) {
		name := strings.Fields(line + " -")[1]
		switch {
		case strings.HasPrefix(line, ":"):
			chains = append(chains, line)
		case slices.Contains([]string{"KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-EXTERNAL-SERVICES", "KUBE-PROXY-FIREWALL"}, name):
			shared[name] = append(shared[name], line)
		default:
			rules = append(rules, line)
		}
	}
	for _, lines := range shared {
		rules = append(rules, slices.Sorted(slices.Values(lines))...)
	}
	slices.Sort(chains)
	slices.SortStableFunc(rules, func(a, b string) int {
		return strings.Compare(strings.Fields(a)[1], strings.Fields(b)[1])
	})
	return strings.Join(chains, "") + strings.Join(rules, "")
}

// normalTable sorts the parts of a table of nftables, and the elements of its sets.
func normalTable(text string) string {
	text = handles.ReplaceAllString(expiries.ReplaceAllString(text, ""), "")
	head, rest, _ := strings.Cut(text, "\n")
	parts := strings.Split(strings.TrimSuffix(strings.TrimSpace(rest), "\n}"), "\n\n")
	for i, part := range parts {
		before, elements, found := strings.Cut(part, "elements = {")
		if !found {
			continue
		}
		elements, after, _ := strings.Cut(elements, "}")
		list := strings.Split(elements, ",")
		for n, e := range list {
			list[n] = strings.Join(strings.Fields(e), " ")
		}
		slices.Sort(list)
		parts[i] = before + "elements = {" + strings.Join(list, ",") + "}" + after
	}
	slices.Sort(parts)
	return head + "\n" + strings.Join(parts, "\n\n") + "\n}\n"
}
