module github.com/damask-sdn/damask/services/egress

go 1.26.7

require github.com/damask-sdn/damask/proto v0.0.0
require github.com/damask-sdn/damask/internal v0.0.0

replace github.com/damask-sdn/damask/proto => ../../proto
replace github.com/damask-sdn/damask/internal => ../../internal
