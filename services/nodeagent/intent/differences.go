package intent

import (
	"context"
	"fmt"
	"slices"

	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// Differences tells how a pod's flows in the switch differ from what they
// should be, each in a phrase. It reads all flows of the switch, so it is for
// questions, not for a path that must be fast.
func (p *Programmer) Differences(ctx context.Context, pod Pod) ([]string, error) {
	owner := pod.Owner()
	want := p.state.compile(owner)
	if len(want) == 0 {
		return []string{"the pod has no flows: the VNID of namespace " + pod.Namespace + " is not known"}, nil
	}
	installed, err := p.sw.Dump(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the flows of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	has := map[openflow.Key]openflow.Flow{}
	for _, f := range installed {
		if f.Owner == owner {
			has[f.Key()] = f.Flow
		}
	}
	var differences []string
	for _, f := range want {
		got, there := has[f.Key()]
		delete(has, f.Key())
		switch {
		case !there:
			differences = append(differences, "flow is missing: "+f.String())
		case !slices.Equal(got.Actions, f.Actions):
			differences = append(differences, fmt.Sprintf("flow is %q, and should be %q", got, f))
		}
	}
	for _, f := range has {
		differences = append(differences, "flow should not be there: "+f.String())
	}
	return differences, nil
}
