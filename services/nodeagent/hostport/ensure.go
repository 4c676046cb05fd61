package hostport

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// Ensure makes all rules right for a node, and answers one line of text for each
// repair, none when the kernel had what was written last. It is idempotent; after an
// error another call goes on.
func (r *Rules) Ensure(ctx context.Context, n Node) (repairs []string, err error) {
	if err := n.check(); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.node = &n
	return r.compare(ctx)
}

// compare does what Ensure says. The caller holds the lock, and r.node is there.
func (r *Rules) compare(ctx context.Context) (repairs []string, err error) {
	for _, chain := range []string{chainTenants, chainHostPorts} {
		there, err := r.command.ChainExists(tableNAT, chain)
		if err == nil && !there {
			err = r.command.NewChain(tableNAT, chain)
			repairs = append(repairs, fmt.Sprintf("iptables: table nat: chain %s created", chain))
		}
		if err != nil {
			return repairs, fmt.Errorf("make chain %s: %w", chain, err)
		}
	}
	lines, err := r.comparePorts(ctx)
	repairs = append(repairs, lines...)
	if err != nil {
		return repairs, err
	}
	lines, err = r.compareShared()
	repairs = append(repairs, lines...)
	if err != nil {
		return repairs, err
	}
	lines, err = routeLocalnet(r.node.gateway())
	return append(repairs, lines...), err
}

// comparePorts makes the chains of ports, and those that lead to them, right: in one
// batch, so no packet meets half of it.
func (r *Rules) comparePorts(ctx context.Context) (repairs []string, err error) {
	entries, err := r.list(chainHostPorts)
	if err != nil {
		return nil, err
	}
	var b batch
	written := map[string]fragment{}
	var wanted []string
	for _, owner := range slices.Sorted(maps.Keys(r.wanted)) {
		f := compile(*r.node, owner, r.wanted[owner])
		written[owner] = f
		for _, p := range f.ports {
			wanted = append(wanted, p.entry)
			has, err := r.list(p.chain)
			if err != nil {
				return nil, err
			}
			if slices.Equal(has, p.rules) {
				continue
			}
			b.write(p.chain, p.rules)
			// A namespace that has become a tenant is no damage.
			if !slices.ContainsFunc(r.written[owner].ports, port{chain: p.chain, rules: has}.same) {
				repairs = append(repairs, fmt.Sprintf("iptables: table nat: chain %s of a host port written", p.chain))
			}
		}
	}
	if !sameSet(entries, wanted) {
		b.write(chainHostPorts, wanted)
		repairs = append(repairs, fmt.Sprintf("iptables: table nat: chain %s written", chainHostPorts))
		for _, gone := range b.unused(entries) {
			b.drop(gone)
		}
	}
	tenants, err := r.list(chainTenants)
	if err != nil {
		return nil, err
	}
	if want := tenantRules(*r.node); !slices.Equal(tenants, want) {
		b.write(chainTenants, want)
		if !slices.Equal(tenants, r.tenants) { // another node is no damage
			repairs = append(repairs, fmt.Sprintf("iptables: table nat: chain %s written", chainTenants))
		}
	}
	if err := r.send(ctx, b); err != nil {
		return nil, err
	}
	r.written, r.tenants = written, tenantRules(*r.node)
	return repairs, nil
}

// sameSet says that two lists have the same rules, each once: their order means
// nothing, since no two of them match the same packet.
func sameSet(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// compareShared puts our rules in built-in chains that are missing to their top.
func (r *Rules) compareShared() (repairs []string, err error) {
	for _, s := range sharedRules(*r.node) {
		has, err := r.listOf(s.table, s.chain)
		if err != nil {
			return repairs, err
		}
		if slices.Contains(has, s.rule) {
			continue
		}
		if err := r.command.Insert(s.table, s.chain, 1, words(s.rule)...); err != nil {
			return repairs, fmt.Errorf("rule %q of chain %s: %w", s.rule, s.chain, err)
		}
		repairs = append(repairs, fmt.Sprintf("iptables: table %s: chain %s: rule %s inserted", s.table, s.chain, s.rule))
	}
	return repairs, nil
}

// routeLocalnet lets loopback addresses leave by the gateway device. The rule in table
// raw must be there before.
func routeLocalnet(device string) ([]string, error) {
	path := "/proc/sys/net/ipv4/conf/" + device + "/route_localnet"
	value, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the setting route_localnet of %s: %w", device, err)
	}
	if string(bytes.TrimSpace(value)) == "1" {
		return nil, nil
	}
	if err := os.WriteFile(path, []byte("1"), 0); err != nil {
		return nil, fmt.Errorf("write the setting route_localnet of %s: %w", device, err)
	}
	return []string{fmt.Sprintf("net.ipv4.conf.%s.route_localnet: is %s, should be 1", device, bytes.TrimSpace(value))}, nil
}

// list answers the rules of a chain of table nat, none if it is not there.
func (r *Rules) list(chain string) ([]string, error) {
	there, err := r.command.ChainExists(tableNAT, chain)
	if err != nil {
		return nil, fmt.Errorf("look for chain %s: %w", chain, err)
	}
	if !there {
		return nil, nil
	}
	return r.listOf(tableNAT, chain)
}

func (r *Rules) listOf(table, chain string) ([]string, error) {
	lines, err := r.command.List(table, chain)
	if err != nil {
		return nil, fmt.Errorf("list chain %s of table %s: %w", chain, table, err)
	}
	var rules []string
	for _, line := range lines {
		if rule, ok := strings.CutPrefix(line, "-A "+chain+" "); ok {
			rules = append(rules, strings.TrimSpace(rule))
		}
	}
	return rules, nil
}

// words splits a rule of ours for a command line. Only comments hold blanks.
func words(rule string) []string {
	before, quoted, found := strings.Cut(rule, `"`)
	if !found {
		return strings.Fields(rule)
	}
	text, after, _ := strings.Cut(quoted, `"`)
	return slices.Concat(strings.Fields(before), []string{text}, strings.Fields(after))
}

// batch is one input of iptables-restore --noflush: taken as a whole or not at all.
type batch struct {
	written              map[string]bool
	declare, rules, last []string
}

// write makes a chain hold exactly the rules, whether it was there or not.
func (b *batch) write(chain string, rules []string) {
	if b.written == nil {
		b.written = map[string]bool{}
	}
	b.written[chain] = true
	b.declare = append(b.declare, ":"+chain+" - [0:0]")
	for _, rule := range rules {
		b.rules = append(b.rules, "-A "+chain+" "+rule)
	}
}

// drop takes a chain out that nothing of this batch jumps to.
func (b *batch) drop(chain string) {
	b.declare = append(b.declare, ":"+chain+" - [0:0]")
	b.last = append(b.last, "-X "+chain)
}

// unused lists the chains of ports that entries lead to and the batch's rules do not.
func (b *batch) unused(entries []string) []string {
	used := map[string]bool{}
	for _, rule := range b.rules {
		used[target(rule)] = true
	}
	var gone []string
	for _, entry := range entries {
		if chain := target(entry); strings.HasPrefix(chain, prefixPort) && !used[chain] && !b.written[chain] {
			gone = append(gone, chain)
		}
	}
	slices.Sort(gone)
	return slices.Compact(gone)
}

// target is the chain that a rule jumps to.
func target(rule string) string {
	_, chain, _ := strings.Cut(rule, " -j ")
	return chain
}

// exchange turns what an owner has into what it shall have, and leaves alone what stays.
func exchange(old, wish fragment) batch {
	var b batch
	for _, p := range wish.ports {
		if !slices.ContainsFunc(old.ports, p.same) {
			b.write(p.chain, p.rules)
		}
	}
	for _, p := range old.ports {
		kept := slices.ContainsFunc(wish.ports, func(w port) bool { return w.entry == p.entry })
		if !kept {
			b.rules = append(b.rules, "-D "+chainHostPorts+" "+p.entry)
		}
		if !kept && !slices.ContainsFunc(wish.ports, func(w port) bool { return w.chain == p.chain }) {
			b.drop(p.chain)
		}
	}
	for _, p := range wish.ports {
		if !slices.ContainsFunc(old.ports, func(o port) bool { return o.entry == p.entry }) {
			b.rules = append(b.rules, "-A "+chainHostPorts+" "+p.entry)
		}
	}
	return b
}

func (p port) same(other port) bool {
	return p.chain == other.chain && slices.Equal(p.rules, other.rules)
}

// send writes a batch in one process. An empty one starts none.
func (r *Rules) send(ctx context.Context, b batch) error {
	if len(b.declare)+len(b.rules) == 0 {
		return nil
	}
	lines := slices.Concat([]string{"*" + tableNAT}, b.declare, b.rules, b.last, []string{"COMMIT", ""})
	cmd := exec.CommandContext(ctx, r.restore, "--noflush", "--wait", fmt.Sprint(lockSeconds))
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n"))
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", r.restore, err, bytes.TrimSpace(said))
	}
	return nil
}
