# SPDX-License-Identifier: AGPL-3.0-or-later
# Completion of ostree-upload for bash. Made by make generated.

_ostree_upload_local_refs() {
	local repo=${OSTREE_UPLOAD_REPO:-repo} i
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		-r | --repo)
			repo=${COMP_WORDS[i + 1]}
			[[ $repo != = ]] || repo=${COMP_WORDS[i + 2]}
			;;
		esac
	done
	(cd "$repo/refs/heads" 2>/dev/null && find . -type f | sed 's|^\./||')
}

_ostree_upload_reply() { mapfile -t COMPREPLY < <(compgen "$@" -- "$cur"); }

_ostree_upload_files() {
	compopt -o filenames
	_ostree_upload_reply "$1"
}

_ostree_upload() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
	if [[ $cur == = ]]; then
		cur=
	elif [[ $prev == = ]]; then
		prev=${COMP_WORDS[COMP_CWORD - 2]}
	fi
	local path='' value='' word flags='' commands='' argument=''
	for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
		if [[ $word == = ]]; then
			value=1
			continue
		elif [[ $value ]]; then
			value=
			continue
		fi
		case $word in
		--address | --audience | --branch | --ca-file | --chunk-size | --client-cert | --client-key | --config | --depth | --encoders | --encoding | --expires | --from-file | --jobs | --limit | --limit-rate | --name | --overlap | --reason | --ref | --repo | --repository | --resume | --retry-for | --scope | --state | --status | --tls-cert | --tls-client-ca | --tls-key | --to | --token | --token-command | --token-file | --wait-lock | -a | -b | -c | -r | -t) value=1 ;;
		esac
		case "$path $word" in
		' gentoken') path='gentoken' ;;
		' tokens') path='tokens' ;;
		' push' | ' upload') path='push' ;;
		' refs') path='refs' ;;
		' sessions') path='sessions' ;;
		' receive') path='receive' ;;
		' check') path='check' ;;
		' prune') path='prune' ;;
		' health') path='health' ;;
		'tokens list') path='tokens list' ;;
		'tokens revoke') path='tokens revoke' ;;
		'refs list') path='refs list' ;;
		'refs set') path='refs set' ;;
		'refs delete') path='refs delete' ;;
		'refs log') path='refs log' ;;
		'refs rollback') path='refs rollback' ;;
		'sessions list') path='sessions list' ;;
		'sessions show') path='sessions show' ;;
		'sessions abort') path='sessions abort' ;;
		'sessions chown') path='sessions chown' ;;
		'sessions publish') path='sessions publish' ;;
		'sessions reject') path='sessions reject' ;;
		esac
	done
	COMPREPLY=()
	case "$path $prev" in
	'gentoken -c' | 'gentoken --config') _ostree_upload_files -f; return ;;
	'tokens -c' | 'tokens --config') _ostree_upload_files -f; return ;;
	'tokens -r' | 'tokens --repo') _ostree_upload_files -d; return ;;
	'tokens --state') _ostree_upload_files -d; return ;;
	'tokens list -r' | 'tokens list --repo') _ostree_upload_files -d; return ;;
	'tokens list --state') _ostree_upload_files -d; return ;;
	'tokens list -c' | 'tokens list --config') _ostree_upload_files -f; return ;;
	'tokens revoke -c' | 'tokens revoke --config') _ostree_upload_files -f; return ;;
	'push -r' | 'push --repo') _ostree_upload_files -d; return ;;
	'push --token-file') _ostree_upload_files -f; return ;;
	'push --ca-file') _ostree_upload_files -f; return ;;
	'push --client-cert') _ostree_upload_files -f; return ;;
	'push --client-key') _ostree_upload_files -f; return ;;
	'push -b' | 'push --branch') _ostree_upload_reply -W "$(_ostree_upload_local_refs)"; return ;;
	'push --encoding') _ostree_upload_reply -W 'auto archive zstd delta'; return ;;
	'refs --token-file') _ostree_upload_files -f; return ;;
	'refs --ca-file') _ostree_upload_files -f; return ;;
	'refs --client-cert') _ostree_upload_files -f; return ;;
	'refs --client-key') _ostree_upload_files -f; return ;;
	'refs list --token-file') _ostree_upload_files -f; return ;;
	'refs list --ca-file') _ostree_upload_files -f; return ;;
	'refs list --client-cert') _ostree_upload_files -f; return ;;
	'refs list --client-key') _ostree_upload_files -f; return ;;
	'refs set --from-file') _ostree_upload_files -f; return ;;
	'refs set --token-file') _ostree_upload_files -f; return ;;
	'refs set --ca-file') _ostree_upload_files -f; return ;;
	'refs set --client-cert') _ostree_upload_files -f; return ;;
	'refs set --client-key') _ostree_upload_files -f; return ;;
	'refs delete --token-file') _ostree_upload_files -f; return ;;
	'refs delete --ca-file') _ostree_upload_files -f; return ;;
	'refs delete --client-cert') _ostree_upload_files -f; return ;;
	'refs delete --client-key') _ostree_upload_files -f; return ;;
	'refs log --token-file') _ostree_upload_files -f; return ;;
	'refs log --ca-file') _ostree_upload_files -f; return ;;
	'refs log --client-cert') _ostree_upload_files -f; return ;;
	'refs log --client-key') _ostree_upload_files -f; return ;;
	'refs rollback --token-file') _ostree_upload_files -f; return ;;
	'refs rollback --ca-file') _ostree_upload_files -f; return ;;
	'refs rollback --client-cert') _ostree_upload_files -f; return ;;
	'refs rollback --client-key') _ostree_upload_files -f; return ;;
	'sessions --token-file') _ostree_upload_files -f; return ;;
	'sessions --ca-file') _ostree_upload_files -f; return ;;
	'sessions --client-cert') _ostree_upload_files -f; return ;;
	'sessions --client-key') _ostree_upload_files -f; return ;;
	'sessions --state') _ostree_upload_files -d; return ;;
	'sessions --status') _ostree_upload_reply -W 'open verifying publishing published failed aborted expired held rejected'; return ;;
	'sessions list --token-file') _ostree_upload_files -f; return ;;
	'sessions list --ca-file') _ostree_upload_files -f; return ;;
	'sessions list --client-cert') _ostree_upload_files -f; return ;;
	'sessions list --client-key') _ostree_upload_files -f; return ;;
	'sessions list --state') _ostree_upload_files -d; return ;;
	'sessions list --status') _ostree_upload_reply -W 'open verifying publishing published failed aborted expired held rejected'; return ;;
	'sessions show --token-file') _ostree_upload_files -f; return ;;
	'sessions show --ca-file') _ostree_upload_files -f; return ;;
	'sessions show --client-cert') _ostree_upload_files -f; return ;;
	'sessions show --client-key') _ostree_upload_files -f; return ;;
	'sessions show --state') _ostree_upload_files -d; return ;;
	'sessions show --status') _ostree_upload_reply -W 'open verifying publishing published failed aborted expired held rejected'; return ;;
	'sessions abort --token-file') _ostree_upload_files -f; return ;;
	'sessions abort --ca-file') _ostree_upload_files -f; return ;;
	'sessions abort --client-cert') _ostree_upload_files -f; return ;;
	'sessions abort --client-key') _ostree_upload_files -f; return ;;
	'sessions abort --state') _ostree_upload_files -d; return ;;
	'sessions abort --status') _ostree_upload_reply -W 'open verifying publishing published failed aborted expired held rejected'; return ;;
	'sessions chown --token-file') _ostree_upload_files -f; return ;;
	'sessions chown --ca-file') _ostree_upload_files -f; return ;;
	'sessions chown --client-cert') _ostree_upload_files -f; return ;;
	'sessions chown --client-key') _ostree_upload_files -f; return ;;
	'sessions chown --state') _ostree_upload_files -d; return ;;
	'sessions chown --status') _ostree_upload_reply -W 'open verifying publishing published failed aborted expired held rejected'; return ;;
	'sessions publish --token-file') _ostree_upload_files -f; return ;;
	'sessions publish --ca-file') _ostree_upload_files -f; return ;;
	'sessions publish --client-cert') _ostree_upload_files -f; return ;;
	'sessions publish --client-key') _ostree_upload_files -f; return ;;
	'sessions publish --state') _ostree_upload_files -d; return ;;
	'sessions publish --status') _ostree_upload_reply -W 'open verifying publishing published failed aborted expired held rejected'; return ;;
	'sessions reject --token-file') _ostree_upload_files -f; return ;;
	'sessions reject --ca-file') _ostree_upload_files -f; return ;;
	'sessions reject --client-cert') _ostree_upload_files -f; return ;;
	'sessions reject --client-key') _ostree_upload_files -f; return ;;
	'sessions reject --state') _ostree_upload_files -d; return ;;
	'sessions reject --status') _ostree_upload_reply -W 'open verifying publishing published failed aborted expired held rejected'; return ;;
	'receive -c' | 'receive --config') _ostree_upload_files -f; return ;;
	'receive -r' | 'receive --repo') _ostree_upload_files -d; return ;;
	'receive --state') _ostree_upload_files -d; return ;;
	'receive --tls-cert') _ostree_upload_files -f; return ;;
	'receive --tls-key') _ostree_upload_files -f; return ;;
	'receive --tls-client-ca') _ostree_upload_files -f; return ;;
	'check -c' | 'check --config') _ostree_upload_files -f; return ;;
	'check -r' | 'check --repo') _ostree_upload_files -d; return ;;
	'check --state') _ostree_upload_files -d; return ;;
	'prune -c' | 'prune --config') _ostree_upload_files -f; return ;;
	'prune -r' | 'prune --repo') _ostree_upload_files -d; return ;;
	'prune --state') _ostree_upload_files -d; return ;;
	'health -c' | 'health --config') _ostree_upload_files -f; return ;;
	'health --client-cert') _ostree_upload_files -f; return ;;
	'health --client-key') _ostree_upload_files -f; return ;;
	esac
	case $prev in
	--address | --audience | --branch | --ca-file | --chunk-size | --client-cert | --client-key | --config | --depth | --encoders | --encoding | --expires | --from-file | --jobs | --limit | --limit-rate | --name | --overlap | --reason | --ref | --repo | --repository | --resume | --retry-for | --scope | --state | --status | --tls-cert | --tls-client-ca | --tls-key | --to | --token | --token-command | --token-file | --wait-lock | -a | -b | -c | -r | -t) return ;;
	esac
	case $path in
	'')
		flags='-h --help -v --verbose --version'
		commands='gentoken tokens push upload refs sessions receive check prune health'
		;;
	'gentoken')
		flags='-c --config --name --ref --scope --expires --repository --replace --overlap -h --help -v --verbose --version'
		;;
	'tokens')
		flags='-c --config -r --repo --state --json -h --help -v --verbose --version'
		commands='list revoke'
		;;
	'tokens list')
		flags='-r --repo --state --json -c --config -h --help -v --verbose --version'
		;;
	'tokens revoke')
		flags='-c --config -h --help -v --verbose --version'
		argument=NAME
		;;
	'push')
		flags='-r --repo -a --address -t --token --token-file --token-command --audience --ca-file --client-cert --client-key --insecure-http -b --branch --resume --depth --skip-unfit --history --repair --force --follow-alias --hold --dry-run --wait-after --take-over --prune --jobs --chunk-size --encoding --encoders --limit-rate --retry-for --json -h --help -v --verbose --version'
		argument=REF
		;;
	'refs')
		flags='-a --address -t --token --token-file --token-command --audience --ca-file --client-cert --client-key --insecure-http --json --limit -h --help -v --verbose --version'
		commands='list set delete log rollback'
		;;
	'refs list')
		flags='--limit -a --address -t --token --token-file --token-command --audience --ca-file --client-cert --client-key --insecure-http --json -h --help -v --verbose --version'
		argument=GLOB
		;;
	'refs set')
		flags='--from-file --force --follow-alias --dry-run --wait-after --retry-for -a --address -t --token --token-file --token-command --audience --ca-file --client-cert --client-key --insecure-http --json -h --help -v --verbose --version'
		argument=REF
		;;
	'refs delete')
		flags='--dry-run --wait-after --retry-for -a --address -t --token --token-file --token-command --audience --ca-file --client-cert --client-key --insecure-http --json -h --help -v --verbose --version'
		argument=REF
		;;
	'refs log')
		flags='--limit -a --address -t --token --token-file --token-command --audience --ca-file --client-cert --client-key --insecure-http --json -h --help -v --verbose --version'
		argument=REF
		;;
	'refs rollback')
		flags='--to --follow-alias --dry-run --wait-after --retry-for -a --address -t --token --token-file --token-command --audience --ca-file --client-cert --client-key --insecure-http --json -h --help -v --verbose --version'
		argument=REF
		;;
	'sessions')
		flags='-a --address -t --token --token-file --token-command --audience --ca-file --client-cert --client-key --insecure-http --state --status --json --watch --limit -h --help -v --verbose --version'
		commands='list show abort chown publish reject'
		;;
	'sessions list')
		flags='--limit -a --address -t --token --token-file --token-command --audience --ca-file --client-cert --client-key --insecure-http --state --status --json --watch -h --help -v --verbose --version'
		;;
	'sessions show')
		flags='-a --address -t --token --token-file --token-command --audience --ca-file --client-cert --client-key --insecure-http --state --status --json --watch -h --help -v --verbose --version'
		argument=ID
		;;
	'sessions abort')
		flags='-a --address -t --token --token-file --token-command --audience --ca-file --client-cert --client-key --insecure-http --state --status --json --watch -h --help -v --verbose --version'
		argument=ID
		;;
	'sessions chown')
		flags='-a --address -t --token --token-file --token-command --audience --ca-file --client-cert --client-key --insecure-http --state --status --json --watch -h --help -v --verbose --version'
		argument=ID
		;;
	'sessions publish')
		flags='-a --address -t --token --token-file --token-command --audience --ca-file --client-cert --client-key --insecure-http --state --status --json --watch -h --help -v --verbose --version'
		argument=ID
		;;
	'sessions reject')
		flags='--reason -a --address -t --token --token-file --token-command --audience --ca-file --client-cert --client-key --insecure-http --state --status --json --watch -h --help -v --verbose --version'
		argument=ID
		;;
	'receive')
		flags='-c --config -r --repo --state -a --address --tls-cert --tls-key --tls-client-ca --init --wait-lock -h --help -v --verbose --version'
		;;
	'check')
		flags='-c --config -r --repo --state --repository --repair --content --json -h --help -v --verbose --version'
		;;
	'prune')
		flags='-c --config -r --repo --state --repository --dry-run --json -h --help -v --verbose --version'
		;;
	'health')
		flags='-c --config -a --address --repository --client-cert --client-key -h --help -v --verbose --version'
		;;
	esac
	if [[ $cur == -* ]]; then
		_ostree_upload_reply -W "$flags"
	elif [[ $commands ]]; then
		_ostree_upload_reply -W "$commands"
	elif [[ $argument == REF ]]; then
		_ostree_upload_reply -W "$(_ostree_upload_local_refs)"
	fi
}

complete -F _ostree_upload ostree-upload
