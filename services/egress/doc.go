// Package egress will own how a namespace leaves the cluster: egress IPs and
// the nodes that host them, egress firewalls, and the DNS names in them.
//
// Nothing of it exists yet: the module is here so that its place, its module
// path and its dependencies are settled. Until it is built, a topology or a
// configuration that names egress IPs or firewalls is refused.
package egress
