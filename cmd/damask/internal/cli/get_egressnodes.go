package cli

import (
	"context"
	"fmt"
	"time"

	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
)

func egressNodes() resource[*egressv1.EgressNode] {
	type node = *egressv1.EgressNode
	return resource[node]{
		plural: "egressnodes", aliases: []string{"egressnode"},
		short: "Show which nodes could host egress IPs, and how their neighbours see them",
		fetch: func(ctx context.Context, s *session, name string) ([]node, error) {
			all, err := s.egressNodes(ctx)
			return only(all, name, node.GetNode), err
		},
		name: node.GetNode,
		columns: []column[node]{
			{title: "NAME", cell: node.GetNode},
			{title: "HEALTH", cell: health},
			{title: "SINCE", cell: func(n node) string { return age(n.GetSince(), time.Now()) }},
			{title: "FAILURES", cell: func(n node) string { return fmt.Sprint(n.GetFailures()) }},
			{title: "NETWORKS", cell: func(n node) string { return list(n.GetNetworks()) }},
			{title: "REVISION", wide: true, cell: func(n node) string { return fmt.Sprint(n.GetRevision()) }},
		},
	}
}
