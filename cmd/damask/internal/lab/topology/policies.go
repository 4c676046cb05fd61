package topology

import (
	"fmt"

	"github.com/damask-sdn/damask/cmd/damask/internal/policyfile"
)

// policies checks that each item is a policy, and that no two are the same one. What
// is wrong inside of one, the tenancy service says.
func (c *checker) policies() {
	first := map[policyfile.Head]int{}
	for i, manifest := range c.t.NetworkPolicies {
		path := fmt.Sprintf("networkPolicies[%d]", i)
		head, err := policyfile.ReadHead(string(manifest))
		switch other, twice := first[head]; {
		case err != nil:
			c.Addf(path, "%v", err)
		case head.Kind == "" || head.Metadata.Name == "":
			c.Addf(path, "kind and metadata.name are required")
		case twice:
			c.Addf(path+".metadata.name", "networkPolicies[%d] is %s %s already", other, head.Kind, head.Metadata.Name)
		default:
			first[head] = i
		}
	}
}
