package masquerade

import (
	"fmt"
	"slices"
)

// formerChains are those that OpenShift SDN had besides ours, by table: where its
// masquerading was, which our chain does itself, and what it looked at to see whether
// somebody had flushed everything.
var formerChains = []struct{ table, name string }{
	{"nat", "OPENSHIFT-MASQUERADE-2"},
	{"mangle", "OPENSHIFT-SDN-CANARY"},
	{"nat", "OPENSHIFT-SDN-CANARY"},
	{"filter", "OPENSHIFT-SDN-CANARY"},
}

// retire takes out what only OpenShift SDN had. It comes after the chains that led there
// are as they should be, and looks once: nobody makes these chains anew.
func (r *Rules) retire() (repairs []string, err error) {
	if r.retired {
		return nil, nil
	}
	there := map[string][]string{}
	for _, c := range formerChains {
		if there[c.table] == nil {
			if there[c.table], err = r.command.ListChains(c.table); err != nil {
				return repairs, fmt.Errorf("list chains of table %s: %w", c.table, err)
			}
		}
		if !slices.Contains(there[c.table], c.name) {
			continue
		}
		if err := r.command.ClearAndDeleteChain(c.table, c.name); err != nil {
			return repairs, fmt.Errorf("take out chain %s of table %s: %w", c.name, c.table, err)
		}
		repairs = append(repairs, fmt.Sprintf("iptables: table %s: chain %s of OpenShift SDN removed", c.table, c.name))
	}
	r.retired = true
	return repairs, nil
}
