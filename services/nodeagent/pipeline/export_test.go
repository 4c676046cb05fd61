package pipeline

import (
	"fmt"

	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// UnusedMeanings are the shapes that none of the flows has.
func UnusedMeanings(flows []openflow.Flow) []string {
	var unused []string
	for _, m := range meanings {
		s := read([]meaning{m})[m.table][0]
		used := false
		for _, f := range flows {
			used = used || f.Table == m.table && s.pattern.MatchString(f.String())
		}
		if !used {
			unused = append(unused, fmt.Sprintf("table=%d, %s", m.table, m.flow))
		}
	}
	return unused
}
