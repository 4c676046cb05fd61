package server

import (
	"encoding/base64"
	"fmt"
	"maps"

	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"

	"github.com/damask-sdn/damask/internal/rpcerr"
	"github.com/damask-sdn/damask/services/tenancy/kubesyntax"
	"github.com/damask-sdn/damask/services/tenancy/netnamespace"
	"github.com/damask-sdn/damask/services/tenancy/vnid"
)

// Limits of requests; the proto files state them.
const (
	defaultPage = 1000
	maxPage     = 5000
	maxNames    = 1000
)

// parseWish reads what a namespace should be.
func parseWish(r *tenancyv1.CreateNetNamespaceRequest, span vnid.Range) (netnamespace.Wish, error) {
	var v rpcerr.Violations
	wish := netnamespace.Wish{Name: r.GetName(), Labels: maps.Clone(r.GetLabels())}
	if wish.Labels == nil {
		wish.Labels = map[string]string{}
	}
	checkNamespace(&v, "name", r.GetName())
	checkLabels(&v, "labels", r.GetLabels())
	if given, ok := wish.Labels[netnamespace.NameLabel]; ok && given != r.GetName() {
		v.Addf("labels", "%s must be the namespace's name, is %q", netnamespace.NameLabel, given)
	}
	wish.Labels[netnamespace.NameLabel] = r.GetName()
	if r.Netid != nil {
		wish.VNID = r.Netid
		switch n := r.GetNetid(); {
		case !span.Grantable(n):
			v.Addf("netid", "%d cannot be wished for: 0, 1, or %d to %d", n, span.First, span.Last)
		case r.GetName() == netnamespace.Default && n != vnid.Global:
			v.Addf("netid", "%q has VNID 0", netnamespace.Default)
		}
	}
	return wish, v.Err(Domain)
}

// parseName reads the one namespace that a request names.
func parseName(name string) error {
	var v rpcerr.Violations
	checkNamespace(&v, "name", name)
	return v.Err(Domain)
}

// parseJoin reads the two namespaces of a join.
func parseJoin(r *tenancyv1.JoinNetNamespaceRequest) error {
	var v rpcerr.Violations
	checkNamespace(&v, "name", r.GetName())
	checkNamespace(&v, "target", r.GetTarget())
	return v.Err(Domain)
}

// page is which part of a list is asked for.
type page struct {
	size  int
	after string // only what comes after this key
}

func parseNamespacePage(r *tenancyv1.ListNetNamespacesRequest) (page, error) {
	var v rpcerr.Violations
	p := parsePage(&v, r.GetPageSize(), r.GetPageToken())
	if len(r.GetNames()) > maxNames {
		v.Addf("names", "%d names, at most %d are allowed", len(r.GetNames()), maxNames)
	}
	for i, name := range r.GetNames() {
		checkNamespace(&v, fmt.Sprintf("names[%d]", i), name)
	}
	return p, v.Err(Domain)
}

func parsePodPage(r *tenancyv1.ListPodsRequest) (page, error) {
	var v rpcerr.Violations
	p := parsePage(&v, r.GetPageSize(), r.GetPageToken())
	if r.GetNamespace() != "" {
		checkNamespace(&v, "namespace", r.GetNamespace())
	}
	if r.GetNode() != "" {
		checkSubdomain(&v, "node", r.GetNode())
	}
	return p, v.Err(Domain)
}

func parsePage(v *rpcerr.Violations, size uint32, token string) page {
	p := page{size: defaultPage}
	switch {
	case size > maxPage:
		v.Addf("page_size", "%d, at most %d are allowed", size, maxPage)
	case size > 0:
		p.size = int(size)
	}
	after, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		v.Addf("page_token", "is not one that a previous answer gave")
	}
	p.after = string(after)
	return p
}

// token is the page token of what comes after the key.
func token(after string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(after))
}

func checkNamespace(v *rpcerr.Violations, field, name string) {
	if problem := kubesyntax.DNSLabel(name); problem != "" {
		v.Addf(field, "%s", problem)
	}
}

func checkSubdomain(v *rpcerr.Violations, field, name string) {
	if problem := kubesyntax.DNSSubdomain(name); problem != "" {
		v.Addf(field, "%s", problem)
	}
}
